"""Trains a tiny network with dropout on the digits."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from mindspore import nn

from models import checkpoint, train
from models.config import load_config
from models.dropout import Dropout
from models.session import create_session
from tests.helpers import DIGITS

SETTINGS = ["--data.batch_size", "128", "--data.eval_batch_size", "360", "--train.epochs", "3",
            "--train.checkpoint_every_steps", "4",
            "--optimizer.learning_rate.initial", "0.02"]
# With SHARPNESS a loss scale that overflows now and then: those steps are skipped, so updates lag behind.
MOMENTUM = ["--model.name", "tiny_sharp", "--loss_scale.policy", "dynamic", "--loss_scale.init", "3.0e+38",
            "--loss_scale.window", "3", "--loss_scale.factor", "8", "--optimizer.learning_rate.initial", "1.0e-4"]
THOR = ["--model.name", "tiny", "--optimizer.frequency", "5"]
SHARPNESS = 32


class TinyNet(nn.Cell):
    """Images (N, 1, 8, 8) to logits (N, 10)."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.conv = nn.Conv2d(1, 4, 3, stride=2, pad_mode="pad", padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.dropout = Dropout(0.2, seed=7)
        self.fc = nn.Dense(64, 10)

    def construct(self, x):
        x = self.dropout(self.flatten(self.relu(self.norm(self.conv(x)))))
        return self.sharpness * self.fc(x)


NETWORKS = {"tiny": lambda model, data: TinyNet(1), "tiny_sharp": lambda model, data: TinyNet(SHARPNESS)}


def main(folder: Path, optimizer: str) -> None:
    """Go on with the newest checkpoint of ``folder``, and leave the final parameters in its ``final.npz``."""
    settings = MOMENTUM if optimizer == "momentum" else THOR
    session = create_session(load_config(DIGITS, [*SETTINGS, *settings, "--optimizer.name", optimizer]))
    run = SimpleNamespace(path=folder, checkpoints=folder / "checkpoints")
    done = checkpoint.restore_newest(session, run.checkpoints)
    print(f"began with batch {done}")
    train.fit(session, run, done)
    values = {parameter.name: parameter.asnumpy() for _, parameter in session.step.parameters_and_names()}
    np.savez(folder / "final.npz", **values)
