"""THOR trains alike on every backend: two second-order steps and a stale one, operator by operator."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from tests.helpers import emulated
from thor import THOR, CurvatureOptions
from thor.backends.ascend import AscendBackend
from thor.backends.cpu import CpuBackend
from thor.backends.gpu import GpuBackend
from thor.registration import tap_network
from thor.train import make_train_step

BACKENDS = {
    "gpu": (lambda: GpuBackend(emulated.gpu()), 2e-5),
    "ascend a2": (lambda: AscendBackend(primitives=emulated.ascend_a2()), 2e-5),
    "ascend 910": (lambda: AscendBackend(primitives=emulated.ascend_910()), 1e-2),
}


class Network(nn.Cell):
    """A strided "same" convolution (unequal padding), a grouped one, 150 columns split into two blocks."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)

        def weight(*shape):
            return Tensor(0.3 * rng.standard_normal(shape).astype(np.float32))

        self.first = nn.Conv2d(1, 6, 3, stride=2, pad_mode="same", weight_init=weight(6, 1, 3, 3))
        self.grouped = nn.Conv2d(6, 6, 3, pad_mode="pad", padding=1, group=2, weight_init=weight(6, 3, 3, 3))
        self.last = nn.Dense(150, 4, weight_init=weight(4, 150), has_bias=False)

    def construct(self, images):
        features = self.grouped(self.first(images))
        return self.last(features.reshape(features.shape[0], 150))


def updates_of_training(backend) -> list[np.ndarray]:
    """Change of each weight over three steps, in the network's order; no block may be rejected."""
    network = Network()
    tap_network(network, CurvatureOptions(), backend)
    before = [p.asnumpy().copy() for p in network.get_parameters() if p.name.endswith("weight")]
    optimizer = THOR(network, 0.02, damping=0.1, momentum=0.9, batch_size=8, frequency=2)
    assert optimizer.backend is backend
    step = make_train_step(nn.WithLossCell(network, nn.MSELoss()), optimizer)
    rng = np.random.default_rng(1)
    for _ in range(3):
        images, targets = rng.standard_normal((8, 1, 10, 10)), rng.standard_normal((8, 4))
        step(Tensor(images, ms.float32), Tensor(targets, ms.float32))
    assert optimizer.rejected_blocks == 0
    after = [p.asnumpy() for p in network.get_parameters() if p.name.endswith("weight")]
    return [new - old for old, new in zip(before, after)]


@pytest.fixture(scope="module")
def cpu_updates() -> list[np.ndarray]:
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return updates_of_training(CpuBackend())


@pytest.mark.parametrize("backend_name", BACKENDS)
def test_training_agrees_with_the_cpu(pynative, backend_name, cpu_updates):
    create, tolerance = BACKENDS[backend_name]
    for update, expected in zip(updates_of_training(create()), cpu_updates, strict=True):
        assert np.linalg.norm(update - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", [ms.float16, ms.bfloat16, ms.float64], ids=str)
def test_a_weight_that_is_not_float32_is_named(pynative, dtype):
    network = nn.Dense(3, 2)
    network.weight.set_dtype(dtype)
    with pytest.raises(TypeError) as error:
        tap_network(network)
    assert str(error.value) == (f"weight is {dtype}; must be Float32 to be preconditioned; cast it with "
                                "set_dtype(mindspore.float32), and use amp_level for mixed precision")
