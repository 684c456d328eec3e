"""``models.train`` with a small network without BatchNorm, of which R ranks train as one with R times the batch.

KILL_AT in the environment: the first rank kills itself with SIGKILL after that batch.
"""
from __future__ import annotations

import os
import sys

from models import train
from tests.helpers import DIGITS, plain_network  # noqa: F401, it registers itself
from tests.helpers.interrupted import kill_after

SETTINGS = ["--model.name", "plain", "--data.augment", "false", "--data.eval_batch_size", "100", "--train.epochs", "2",
            "--train.checkpoint_every_steps", "4", "--optimizer.frequency", "5",
            "--optimizer.learning_rate.initial", "0.02", "--parallel.check_every", "5"]


def main() -> int:
    kill_after(int(os.environ.get("KILL_AT", "0")))
    return train.main(["--config", str(DIGITS), *SETTINGS, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
