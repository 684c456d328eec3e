"""What happens around training steps: progress, evaluation, metrics.csv, curvature.csv, pictures, checkpoints."""
from __future__ import annotations

from typing import Any

from mindspore.train import Callback

from models.callbacks.agreement import Agreement
from models.callbacks.best import KeepBest
from models.callbacks.curvature import CurvatureFile, CurvaturePicture
from models.callbacks.early_stop import EarlyStop
from models.callbacks.evaluation import Evaluation
from models.callbacks.files import CurvesPicture, MetricsFile
from models.callbacks.log import ScalarLog
from models.callbacks.progress import ProgressBar
from models.callbacks.state import TrainingState
from models.callbacks.stopping import Stopping
from models.checkpoint import CheckpointCallback

__all__ = ["CurvesPicture", "EarlyStop", "Evaluation", "KeepBest", "MetricsFile", "ProgressBar", "ScalarLog",
           "Stopping", "TrainingState", "build_callbacks"]


def build_callbacks(session: Any, folder: Any) -> list[Callback]:
    """The callbacks of a run, in the order they must be called.

    A resumed run continues the files in its folder: where training begins is where ``session.train_set`` does
    (``start_at``), rows of batches after it are dropped. Of several processes the first alone writes.

    Args:
        session: models.session.Session.
        folder: has path, for tables and pictures, and checkpoints; models.run_folder.RunFolder.
    """
    state = TrainingState(session)
    parallel = session.config.parallel
    agreement = [Agreement(state)] if session.ranks.count > 1 and parallel.check_every else []
    if not session.ranks.is_first:
        return [state, *agreement, Evaluation(state), EarlyStop(state), Stopping(state, None, folder)]
    metrics = MetricsFile(state, folder.path / "metrics.csv")
    curves = CurvesPicture(metrics, folder.path / "curves.png")
    record = []
    if session.config.curvature.record:
        curvature = CurvatureFile(state, folder.path / "curvature.csv")
        record = [curvature, CurvaturePicture(curvature, folder.path / "curvature.png")]
    saving = CheckpointCallback(session, folder.checkpoints)
    logs = [ScalarLog(metrics, name, folder.path / name) for name in session.config.train.log]
    best = [KeepBest(state, folder)] if session.config.train.keep_best else []
    return [state, *agreement, Evaluation(state), EarlyStop(state), *record, metrics, *logs, ProgressBar(state), curves,
            *best, saving, Stopping(state, saving, folder)]
