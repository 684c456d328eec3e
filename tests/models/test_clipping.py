"""The global norm of gradients is limited, their direction kept, and a run resumes as with the plain optimizer."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.clipping import GlobalNormClip
from models.config import load_config
from models.optimizers import create_optimizer
from thor.train import make_train_step


@pytest.mark.parametrize("norm, factor", [(2.5, 0.5), (10.0, 1.0)])
def test_gradients_longer_than_the_limit_are_scaled(pynative, norm, factor):
    weights = [ms.Parameter(ms.Tensor(np.zeros(n), ms.float32), name=f"w{n}") for n in (1, 2)]
    optimizer = GlobalNormClip(nn.SGD(weights, 1.0), norm)
    optimizer((ms.Tensor([3.0]), ms.Tensor([0.0, -4.0])))  # norm 5
    np.testing.assert_allclose(weights[0].asnumpy(), [-3 * factor], rtol=1e-6)
    np.testing.assert_allclose(weights[1].asnumpy(), [0, 4 * factor], rtol=1e-6)
    assert int(optimizer.global_step.asnumpy()[0]) == 1 and optimizer.loss_scale == 1


@pytest.mark.parametrize("mode, name, clipped", [
    (ms.PYNATIVE_MODE, "lamb", True), (ms.GRAPH_MODE, "momentum", True), (ms.PYNATIVE_MODE, "lookahead(adam)", False),
    (ms.PYNATIVE_MODE, "thor", False)])
def test_the_configured_limit_is_used_by_plain_first_order_optimizers(mode, name, clipped):
    ms.set_context(mode=mode)
    net = nn.Dense(3, 2)
    config = load_config(None, ["--optimizer.name", name, "--optimizer.clip_norm", "0.1", "--train.epochs", "1"])
    optimizer = create_optimizer(config, net, 4)
    assert any(isinstance(cell, GlobalNormClip) for _, cell in optimizer.cells_and_names()) == clipped
    step = make_train_step(nn.WithLossCell(net, nn.MSELoss()), optimizer)
    names = [parameter.name for _, parameter in step.parameters_and_names()]
    assert len(names) == len(set(names))
    before = net.weight.asnumpy().copy()
    step(ms.Tensor(np.ones((4, 3), np.float32)), ms.Tensor(np.ones((4, 2), np.float32)))
    assert np.abs(net.weight.asnumpy() - before).max() > 0
