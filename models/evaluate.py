"""Evaluate: ``python -m models.evaluate --config FILE --checkpoint FILE [--weights ema] [--section.key value ...]``."""
from __future__ import annotations

if __name__ == "__main__":  # before anything starts a thread
    from models.interruption import hold_signals

    hold_signals(lambda: "interrupted; the same command evaluates again")

import os
import sys
from collections.abc import Sequence
from typing import Any

from models.command_line import LoadError, loading, parse, parser, quiet_mindspore, run
from models.config import Config
from models.task import Task

TRAINED, AVERAGED = "trained", "ema"


def main(words: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; the exit status."""
    quiet_mindspore()
    made = parser("python -m models.evaluate", "Evaluate a checkpoint on the held-out data.")
    made.add_argument("--checkpoint", required=True, metavar="FILE", help="a checkpoint of models.train")
    made.add_argument("--weights", choices=(TRAINED, AVERAGED), default=TRAINED,
                      help="weights as they were trained, or their averages (train.ema)")

    def entry() -> None:
        known, config = parse(made, words)
        results, task = _evaluate(config, known.checkpoint, known.weights)
        shown = {name: results[name] for name in task.result_metrics if name in results}
        print(f"result: {shown} ckpt={known.checkpoint}")
    return run(entry)


def evaluate(config: Config, path: str, weights: str = TRAINED) -> dict[str, float]:
    """Loss and accuracies of the checkpoint ``path`` on the held-out data.

    Args:
        weights: "trained", or "ema" for their averages.

    Raises:
        ConfigError, LoadError: one line about what cannot be used.
    """
    return _evaluate(config, path, weights)[0]


def _evaluate(config: Config, path: str, weights: str) -> tuple[dict[str, float], Task]:
    with loading():
        from models.data import dataset_error_line
        from models.session import create_evaluation

        network, evaluation, task = create_evaluation(config)
        load_weights(network, path, weights == AVERAGED)
    try:
        results = evaluation()
    except RuntimeError as error:
        line = dataset_error_line(error)
        if not line:
            raise
        raise LoadError(line) from error
    return {name: float(value) for name, value in results.items()}, task


def load_weights(network: Any, path: str, averaged: bool = False) -> None:
    """Give ``network`` the parameters of the same names in the checkpoint ``path``, the slow ones of Lookahead.

    Args:
        averaged: their averages instead.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a whole checkpoint, one of another network or without averages, or weights that are not finite.
    """
    import mindspore as ms

    from models.averages import averages_within
    from models.checkpoint_file import check_sealed, check_value, load
    from thor.companions.lookahead import evaluation_values

    if not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint={path}; is not a file; give one of a run's checkpoints folder")
    try:
        contents = load(path)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"checkpoint={path}; is truncated or no checkpoint; use another one") from error
    check_sealed(path, contents)
    values = averages_within(contents, network) if averaged else evaluation_values(contents)
    if not values:
        raise ValueError(f"--weights={AVERAGED}; must be {TRAINED} for {path}, which has no averages; train with "
                         "train.ema.decay to have some")
    for parameter in network.get_parameters():
        if parameter.name not in values:
            raise ValueError(f"checkpoint={path}; has no {parameter.name}; give its own config")
        if tuple(values[parameter.name].shape) != tuple(parameter.shape):
            raise ValueError(f"checkpoint={path}; {parameter.name} has shape {values[parameter.name].shape}, "
                             f"the network {parameter.shape}; give its own config")
        check_value(path, parameter.name, values[parameter.name])
    ms.load_param_into_net(network, values)


if __name__ == "__main__":
    sys.exit(main())
