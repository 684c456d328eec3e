"""``models.train`` with a small network without BatchNorm, of which R ranks train as one with R times the batch.

KILL_AT in the environment: the first rank kills itself with SIGKILL after that batch.
"""
from __future__ import annotations

import os
import signal
import sys

from mindspore import nn
from mindspore.common import set_seed
from mindspore.train import Callback

from models import callbacks, train
from models.registry import register_network
from tests.helpers import DIGITS

SETTINGS = ["--model.name", "plain", "--data.augment", "false", "--data.eval_batch_size", "100", "--train.epochs", "2",
            "--train.checkpoint_every_steps", "4", "--optimizer.frequency", "5",
            "--optimizer.learning_rate.initial", "0.02", "--parallel.check_every", "5"]


class PlainNet(nn.Cell):
    """Images (N, 1, 8, 8) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        set_seed(3)
        self.conv = nn.Conv2d(1, 4, 3, stride=2, pad_mode="pad", padding=1)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc = nn.Dense(64, 10)

    def construct(self, x):
        return self.fc(self.flatten(self.relu(self.conv(x))))


class Kill(Callback):
    """SIGKILL to the first rank after a batch."""

    def __init__(self, state: callbacks.TrainingState, at: int) -> None:
        super().__init__()
        self.state, self.at = state, at

    def on_train_step_end(self, run_context) -> None:
        if self.state.batches == self.at and self.state.session.ranks.is_first:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    register_network("plain")(lambda model, data: PlainNet())
    build, at = callbacks.build_callbacks, int(os.environ.get("KILL_AT", "0"))

    def with_kill(session, folder):
        made = build(session, folder)
        return [*made, Kill(made[0], at)]

    callbacks.build_callbacks = with_kill
    return train.main(["--config", str(DIGITS), *SETTINGS, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
