"""Progress on the screen."""
from __future__ import annotations

import sys
from typing import Any

from mindspore.train import Callback
from tqdm import tqdm

from models.callbacks.state import TrainingState


class ProgressBar(Callback):
    """A bar with loss, learning rate, damping and time left on a terminal; a line an epoch everywhere."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state
        self.bar: tqdm | None = None

    def on_train_begin(self, run_context: Any) -> None:
        self.bar = tqdm(total=self.state.total, initial=self.state.start, unit="batch", dynamic_ncols=True,
                        disable=None, leave=False)  # None: not where stderr is no terminal

    def on_train_step_end(self, run_context: Any) -> None:
        self.bar.set_postfix(_numbers(self.state), refresh=False)
        self.bar.update(self.state.batches - self.bar.n if not self.bar.disable else 0)

    def on_train_epoch_end(self, run_context: Any) -> None:
        state = self.state
        if not state.ends_epoch:
            return
        held_out = {f"held-out {name.replace('_', '-')}": f"{value:.4f}"
                    for name, value in state.evaluation.items()}
        numbers = {**_numbers(state), **held_out}
        text = "  ".join(f"{name} {value}" for name, value in numbers.items())
        tqdm.write(f"epoch {state.epoch:g}/{state.session.config.train.epochs}  {text}", file=sys.stdout)
        sys.stdout.flush()

    def on_train_end(self, run_context: Any) -> None:
        self.bar.close()


def _numbers(state: TrainingState) -> dict[str, str]:
    numbers = {"loss": f"{state.loss:.4f}", "lr": f"{state.learning_rate:.3g}"}
    if state.damping is not None:
        numbers["damping"] = f"{state.damping:.3g}"
    if state.refreshed is not None:
        numbers["refreshed"] = "{} of {} layers".format(*state.refreshed)
    if state.skipped.total:
        numbers["skipped"] = f"{state.skipped.total} updates"
    return numbers
