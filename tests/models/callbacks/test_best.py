"""The best checkpoint is kept beside the newest ones; a run whose accuracy rises no more ends, and can go on."""
from __future__ import annotations

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest

from models import checkpoint, evaluate, train
from models.callbacks import EarlyStop, Evaluation, KeepBest, TrainingState
from models.checkpoint import CheckpointCallback
from models.checkpoint_file import read
from models.command_line import LoadError
from models.config import load_config
from models.registry import register_network, unregister_network
from tests.helpers import DIGITS
from tests.helpers.fake_run import drive, fake_session
from tests.helpers.plain_network import PlainNet

pytestmark = pytest.mark.usefixtures("pynative")


def names(folder):
    return sorted(path.name for path in folder.glob("*.ckpt"))


class Run:
    """A run of one batch an epoch with these accuracies; its weights are those of the batch."""

    def __init__(self, folder, accuracies, **options):
        self.session = fake_session(per_epoch=1, **{"epochs": len(accuracies), **options})
        self.folder, self.accuracies = SimpleNamespace(path=folder, checkpoints=folder / "checkpoints"), accuracies
        self.folder.checkpoints.mkdir(exist_ok=True)
        checkpoint.restore_newest(self.session, self.folder.checkpoints)
        self.state = TrainingState(self.session)
        self.session.evaluate = lambda: {"loss": 1.0, "top_1_accuracy": accuracies[self.state.batches - 1]}
        self.stop, self.best = EarlyStop(self.state), KeepBest(self.state, self.folder)
        self.callbacks = [self.state, Evaluation(self.state), self.stop, self.best,
                          CheckpointCallback(self.session, self.folder.checkpoints)]

    def train(self, batches):
        weight = self.session.network.weight

        def loss(batch):
            weight.set_data(ms.Tensor(np.full(weight.shape, batch), ms.float32))
            return 1.0
        return drive(self.session, self.callbacks, batches, loss)

    @property
    def kept(self):
        """(accuracy, step, weight) of the best checkpoint."""
        contents = read(self.folder.checkpoints / "best.ckpt")
        return float(contents["run.best_value"]), contents["run.batches"], contents["weight"].asnumpy()[0, 0]


def test_the_best_checkpoint_is_kept_with_its_step_and_value(tmp_path):
    run = Run(tmp_path, [0.3, 0.71, 0.5, 0.71, 0.2], checkpoint_keep=1)
    run.train(5)
    assert run.kept == (0.71, 2, 2.0)
    assert run.best.results() == {"best_accuracy": 0.71, "best_step": 2}
    assert names(run.folder.checkpoints) == ["best.ckpt", "step-000005.ckpt"]


@pytest.mark.parametrize("every", [1, 3])
def test_a_resumed_run_remembers_the_best_so_far(tmp_path, every):
    """With a checkpoint every three epochs the best is newer than where the run goes on."""
    accuracies = [0.3, 0.5, 0.4, 0.1 + 0.6, 0.6, 0.65, 0.7]
    Run(tmp_path, accuracies, checkpoint_every_epochs=every).train(5)
    run = Run(tmp_path, accuracies, checkpoint_every_epochs=every)
    assert run.session.train_set.first == (5 if every == 1 else 3)
    run.train(7 - run.session.train_set.first)
    assert run.kept == (accuracies[3], 4, 4.0)


def test_a_run_on_another_number_of_devices_takes_the_best_along(tmp_path):
    first = Run(tmp_path, [0.9, 0.1])
    first.train(2)
    (tmp_path / "new").mkdir()
    run = Run(tmp_path / "new", [0.2, 0.2])
    run.best._before = first.folder.checkpoints
    run.train(2)
    assert run.kept == (0.9, 1, 1.0)


def test_a_damaged_best_checkpoint_is_told_and_replaced(tmp_path, caplog):
    Run(tmp_path, [0.9, 0.1]).train(1)
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:-9])
    run = Run(tmp_path, [0.9, 0.1])
    run.train(1)
    assert run.kept[:2] == (0.1, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"checkpoint={path}; is truncated or damaged; it cannot be compared with, the next evaluation takes its place"]


@pytest.mark.parametrize("accuracies, delta, end", [
    ([0.3, 0.5, 0.5, 0.4, 0.9], 0, 4), ([0.1, 0.2, 0.3, 0.4, 0.5], 0, None), ([0.3, 0.35, 0.38, 0.5, 0.9], 0.1, 3),
    ([0.3, 0.35, 0.41, 0.5, 0.505, 0.9], 0.1, 5)])
def test_a_run_stops_after_evaluations_without_a_rise(tmp_path, accuracies, delta, end):
    run = Run(tmp_path, accuracies, early_stop=load_early_stop(2, delta))
    stopped = []
    for batch in range(1, len(accuracies) + 1):
        if not stopped and run.train(1).stopped and batch < len(accuracies):
            stopped.append(batch)
        run.session.train_set.start_at(batch)
    assert stopped == ([end] if end else [])
    assert run.stop.ended_at == end


def load_early_stop(patience, delta):
    return load_config(None, [f"--train.early_stop.patience={patience}",
                              *([f"--train.early_stop.min_delta={delta}"] if delta else [])]).train.early_stop


def test_what_an_early_stop_has_seen_is_in_every_checkpoint(tmp_path):
    accuracies, stop = [0.1 + 0.2, 0.3, 0.2, 0.25, 0.1], load_early_stop(3, 0)
    Run(tmp_path, accuracies, early_stop=stop).train(3)
    run = Run(tmp_path, accuracies, early_stop=stop)
    assert (run.stop.best, run.stop.step, run.stop.without, run.stop.ended_at) == (0.1 + 0.2, 1, 2, None)
    assert run.train(1).stopped and run.stop.ended_at == 4
    assert Run(tmp_path, accuracies, early_stop=stop).stop.ended_at == 4  # killed before its results: it ends at once
    patient = Run(tmp_path, accuracies, early_stop=load_early_stop(9, 0))
    assert patient.stop.ended_at is None and patient.stop.without == 3


@pytest.fixture
def plain():
    register_network("still")(lambda model, data: PlainNet())
    yield
    unregister_network("still")


def test_a_real_run_stops_keeps_its_best_and_goes_on(tmp_path, capsys, plain, monkeypatch):
    """The learning rate is 0: every evaluation is the first one's."""
    monkeypatch.setattr("models.callbacks.files.draw_curves", lambda rows, path: None)
    words = ["--model.name=still", "--optimizer.name=momentum", "--optimizer.learning_rate={initial: 0, schedule: "
             "constant}", "--data.augment=false", "--data.batch_size=479", "--data.eval_batch_size=360",
             "--train.epochs=4", "--train.keep_best=true", "--device.mode=pynative", "--train.eval_every_epochs=1"]
    config = load_config(DIGITS, [*words, "--train.early_stop.patience=2"])
    results = train.train(config)
    lines = capsys.readouterr().out.splitlines()
    accuracy, folder = results["top_1_accuracy"], next((tmp_path / "runs").glob("*/*"))
    assert (results["stopped_early_at_step"], results["best_step"], results["best_accuracy"]) == (9, 3, accuracy)
    assert (f"stopped early at step 9: no top_1_accuracy above {accuracy:.4f} (step 3) in 2 evaluations; "
            "--train.resume CHECKPOINT with a larger train.early_stop.patience goes on") in lines
    best = folder.relative_to(tmp_path) / "checkpoints" / "best.ckpt"
    assert lines[-1].split(maxsplit=2)[2] == f"{best} ({accuracy:.4f} at step 3)"
    assert evaluate.evaluate(config, str(best))["top_1_accuracy"] == accuracy
    again = load_config(DIGITS, [*words, "--train.early_stop.patience=3",
                                 f"--train.resume={best.parent}/step-000009.ckpt"])
    assert "stopped_early_at_step" not in train.train(again)
    (folder / "results.json").unlink()  # as if it had been killed after its last step
    finished = load_config(DIGITS, [*words, "--train.early_stop.patience=2", f"--train.resume={folder}"])
    assert {**train.train(finished), "seconds": 0} == {**results, "seconds": 0}
    best.write_bytes(best.read_bytes()[:-5])
    with pytest.raises(LoadError, match="best.ckpt; is truncated or no checkpoint"):
        evaluate.evaluate(config, str(best))
