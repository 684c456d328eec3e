"""K-FAC and SP-NGD are THOR with other settings; K-FAC takes the Newton step where its Fisher is exact."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from thor import THOR
from thor.companions import kfac, spngd
from thor.curvature import FrobeniusPolicy
from thor.train import make_train_step

ROWS, INPUTS, OUTPUTS = 200, 130, 3  # more inputs than a block of THOR


class HalfSquares(nn.Cell):
    """The mean over rows of ``|x W' - y|^2 / 2``: minus the log-likelihood of a Gaussian with covariance I."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x, y):
        return 0.5 * ops.square(self.network(x) - y).sum() / ROWS


def linear_gaussian():
    """Correlated inputs, and labels whose residuals at the first weights have second moment I exactly."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, INPUTS)) @ (np.eye(INPUTS) + 0.05 * rng.normal(size=(INPUTS, INPUTS)))
    weight = rng.normal(size=(OUTPUTS, INPUTS))
    noise = rng.normal(size=(ROWS, OUTPUTS)) + 0.3 * x[:, :OUTPUTS]
    noise = noise @ np.linalg.inv(np.linalg.cholesky(noise.T @ noise / ROWS)).T
    return x, x @ weight.T + noise, weight


def after_one_step(optimizer_of, **options):
    x, y, weight = linear_gaussian()
    network = nn.Dense(INPUTS, OUTPUTS, has_bias=False)
    network.weight.set_data(Tensor(weight.astype(np.float32)))
    optimizer = optimizer_of(network, 1.0, 1e-12, momentum=0.0, batch_size=ROWS, **options)
    make_train_step(HalfSquares(network), optimizer)(Tensor(x, ms.float32), Tensor(y, ms.float32))
    return network.weight.asnumpy()


@pytest.mark.parametrize("average", [0.0, 0.95])
def test_kfac_takes_the_newton_step_on_a_linear_gaussian_problem(pynative, average):
    """The Hessian is (x'x / N) x I = A x G, so one step of length 1 ends at the least-squares solution."""
    x, y, _ = linear_gaussian()
    solution = np.linalg.lstsq(x, y, rcond=None)[0].T
    np.testing.assert_allclose(after_one_step(kfac, running_average=average), solution, rtol=0, atol=2e-3)


def test_blocks_of_thor_do_not(pynative):
    x, y, _ = linear_gaussian()
    solution = np.linalg.lstsq(x, y, rcond=None)[0].T
    assert np.abs(after_one_step(THOR) - solution).max() > 0.05


@pytest.mark.parametrize("build, expected", [
    (kfac, {"running_average": 0.95, "batchnorm_blocks": False}),
    (spngd, {"running_average": 0.0, "batchnorm_blocks": True})])
def test_they_are_thor_with_whole_factors_and_split_damping(build, expected, monkeypatch):
    seen = {}
    monkeypatch.setattr("thor.companions.second_order.THOR", lambda *given, **named: seen.update(named, given=given))
    network = nn.Dense(2, 2)
    build(network, 0.1, 0.2, 0.8, 0.01, 4.0, 16, 7, fold_bias=True)
    update = seen.pop("update", None)
    assert (type(update) is FrobeniusPolicy and update.due_at(14) and not update.due_at(3)) == (build is spngd)
    assert seen.pop("given") == (network, 0.1, 0.2, 0.8, 0.01, 4.0, 16)
    assert seen == {"frequency": 7, "pi_correction": True, "split_dim": None, "fold_bias": True,
                    **{name: value for name, value in expected.items() if value}}


def test_spngd_refreshes_less_often_while_factors_stay_alike(pynative):
    """The same batch over and over with a rate of 0: intervals 1, 1, 2, 3, 5 steps, as the paper's rule says."""
    x, y, weight = linear_gaussian()
    network = nn.Dense(INPUTS, OUTPUTS, has_bias=False)
    network.weight.set_data(Tensor(weight.astype(np.float32)))
    optimizer = spngd(network, 0.0, 0.1, momentum=0.0, batch_size=ROWS)
    step = make_train_step(HalfSquares(network), optimizer)
    refreshed = []
    for number in range(14):
        for parameter in inverses(optimizer):
            parameter.set_data(Tensor(np.zeros(parameter.shape, np.float32)))
        step(Tensor(x, ms.float32), Tensor(y, ms.float32))
        written = [blocks.any() for roles in optimizer.inverses().values() for blocks in roles.values()]
        assert len(written) == 2 and all(written) == any(written)
        refreshed += [number] if written[0] else []
    assert refreshed == [0, 1, 2, 4, 7, 12]


def inverses(optimizer):
    return [parameter for parameter in optimizer.get_parameters() if parameter.name.startswith("inverses_")]
