"""A tiny classifier, its data and its state, for tests of train steps."""
from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import Tensor, nn

from thor import THOR

BATCH, CLASSES, FREQUENCY = 4, 3, 3


class Classifier(nn.Cell):
    """Two layers with a factor each, one without."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(5)
        self.first = nn.Dense(4, 5, activation="tanh")
        self.norm = nn.LayerNorm((5,))
        self.second = nn.Dense(5, CLASSES)
        for parameter in self.trainable_params():
            centre = 1.0 if "gamma" in parameter.name else 0.0
            parameter.set_data(Tensor(rng.normal(centre, 0.4, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.second(self.norm(self.first(x)))


class Sink(nn.Cell):
    """A graph around the train step, as MindSpore's data sink builds one."""

    def __init__(self, step):
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, x, y):
        return self.step(x, y)


def loss_fn():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def create(**options):
    """``(network, network with loss, optimizer)``; the same weights at every call."""
    network = Classifier()
    options = {"batch_size": BATCH, "frequency": FREQUENCY, "split_dim": 4, "weight_decay": 1e-3, **options}
    rate, damping = options.pop("learning_rate", [0.1, 0.08, 0.06]), options.pop("damping", [0.3, 0.2])
    optimizer = THOR(network, rate, damping, options.pop("momentum", 0.9), **options)
    return network, nn.WithLossCell(network, loss_fn()), optimizer


def arrays(count):
    rng = np.random.default_rng(17)
    return [(rng.normal(0, 1, (BATCH, 4)).astype(np.float32),
             rng.integers(0, CLASSES, BATCH).astype(np.int32)) for _ in range(count)]


def batches(count):
    return [(Tensor(x), Tensor(y)) for x, y in arrays(count)]


def dataset(count):
    """``count`` batches in fixed order."""
    data = arrays(count)
    columns = {"data": np.concatenate([x for x, _ in data]), "label": np.concatenate([y for _, y in data])}
    return ds.NumpySlicesDataset(columns, shuffle=False).batch(BATCH)


def weights_of(network):
    return {p.name: p.asnumpy().copy() for p in network.trainable_params() if "factor_" not in p.name}


def state_of(cell):
    """Every parameter of a cell, by name."""
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


def inverses_of(optimizer):
    return [p.asnumpy().copy() for p in optimizer.get_parameters() if p.name.startswith(("inverse_", "inverses_"))]


def assert_same_weights(network, expected, rtol=1e-5, atol=2e-6):
    got = weights_of(network)
    assert list(got) == list(expected)
    for name, weight in expected.items():
        np.testing.assert_allclose(got[name], weight, rtol=rtol, atol=atol, err_msg=name)


class Refreshes(ms.train.Callback):
    """The indices of the steps in which an inverse changed."""

    def __init__(self, optimizer):
        self.optimizer, self.steps, self.count = optimizer, [], 0
        self.before = inverses_of(optimizer)

    def note(self):
        after = inverses_of(self.optimizer)
        changed = [not np.array_equal(a, b) for a, b in zip(after, self.before, strict=True)]
        assert all(changed) or not any(changed)
        if all(changed):
            self.steps.append(self.count)
        self.before, self.count = after, self.count + 1

    def on_train_step_end(self, run_context):
        self.note()
