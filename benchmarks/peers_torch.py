"""PyTorch's sides of :mod:`benchmarks.peers`: does a step for each line of standard input, and answers with its loss.

``PYTHON peers_torch.py IMAGE_SIZE BATCH_SIZE SEED``; lines are ``SGD``, ``kfac_stale`` or ``kfac_refresh``. It needs
torch and, for the last two, kfac-pytorch; nothing of this repository.
"""
from __future__ import annotations

import json
import sys

import torch
from torch import nn

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, DAMPING, CLASSES = 0.01, 0.9, 5e-4, 0.03, 1000
NEVER = 10 ** 9


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions around a shortcut: ResNet v1.5."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = 4 * width
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.convolutions(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    """Images to logits."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                               nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        width = 64 * 2 ** stage
        for place in range(depth):
            layers.append(Bottleneck(inputs, width, 2 if stage > 0 and place == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


class Step:
    """A training step of a network of its own; with ``preconditioner`` the gradients pass through it."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.network, self.loss = resnet50().train(), nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY)
        self.images, self.labels, self.preconditioner = images, labels, None

    def __call__(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.network(self.images), self.labels)
        loss.backward()
        if self.preconditioner is not None:
            self.preconditioner.step()
        self.optimizer.step()
        return float(loss)


class KfacStep(Step):
    """kfac-pytorch with its defaults; it refreshes when ``interval`` is 1."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        from kfac.preconditioner import KFACPreconditioner

        super().__init__(images, labels)
        self.interval = 1
        self.preconditioner = KFACPreconditioner(
            self.network, factor_update_steps=lambda step: self.interval, inv_update_steps=lambda step: self.interval,
            damping=DAMPING, lr=LEARNING_RATE)

    def run(self, interval: int) -> float:
        """One step, refreshing every ``interval``."""
        self.interval = interval
        return self()


def main(image_size: int, batch_size: int, seed: int) -> None:
    """Serve until the input ends."""
    torch.manual_seed(seed)
    images, labels = torch.randn(batch_size, 3, image_size, image_size), torch.randint(0, CLASSES, (batch_size,))
    made: dict[str, Step] = {}
    for line in sys.stdin:
        name = line.strip()
        kind = Step if name == "SGD" else KfacStep
        if kind.__name__ not in made:
            made[kind.__name__] = kind(images, labels)
        step = made[kind.__name__]
        if isinstance(step, KfacStep):
            if step.preconditioner.steps == 0:
                step.run(1)  # there are no inverses yet
            loss = step.run(NEVER if name == "kfac_stale" else 1)
        else:
            loss = step()
        print(json.dumps(loss), flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
