"""Loss scaling that skips overflow, and gradient accumulation."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import DynamicLossScaleManager, FixedLossScaleManager, Tensor, nn

from tests.helpers import reference as ref
from tests.helpers.layer_cases import value
from tests.helpers.modes import BOTH_MODES
from tests.helpers.training_cases import BATCH, Sink, arrays, assert_same_weights, batches, create, state_of, weights_of
from thor import THOR
from thor.scaling import LossScaling
from thor.train import make_train_step


def trained(manager=None, accumulate_steps=1, count=4, **options):
    network, with_loss, optimizer = create(**options)
    step = make_train_step(with_loss, optimizer, manager, accumulate_steps)
    for batch in batches(count):
        step(*batch)
    return network, step


@pytest.fixture(scope="module")
def plain():
    """Weights trained without a loss scale."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return weights_of(trained()[0])


@pytest.mark.parametrize("manager, loss_scale", [
    (None, 1024.0),
    (1024, 1024.0),
    (FixedLossScaleManager(1024, drop_overflow_update=False), 1024),
    (FixedLossScaleManager(1024, drop_overflow_update=True), 1.0),
    (FixedLossScaleManager(1024), 1024.0),
    (DynamicLossScaleManager(1024, 2, 2), 1.0),
], ids=["optimizer", "number", "fixed", "fixed, drop", "fixed, drop, both", "dynamic"])
def test_loss_scale_changes_nothing(pynative, plain, manager, loss_scale):
    network, step = trained(manager, loss_scale=loss_scale)
    assert_same_weights(network, plain, rtol=1e-6, atol=1e-7)
    if isinstance(manager, DynamicLossScaleManager):  # doubled after every second good step
        assert state_of(step)["scale_value"] == 4096


def bad_batch(poison):
    x, y = arrays(1)[0]
    return Tensor(np.where(np.arange(BATCH)[:, None] == 1, np.float32(poison), x)), Tensor(y)


@pytest.fixture(scope="module")
def averaged():
    """Weights trained without a loss scale, with a running average."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return weights_of(trained(running_average=0.5)[0])


@pytest.mark.parametrize("manager", [DynamicLossScaleManager(1024, 2, 1000), FixedLossScaleManager(1024)],
                         ids=["dynamic", "fixed"])
def test_an_overflow_is_skipped_and_nothing_changes(pynative, averaged, manager):
    """In graphs, see ``test_scaling_and_accumulation_embedded_in_another_graph``."""
    network, with_loss, optimizer = create(running_average=0.5)
    step = make_train_step(with_loss, optimizer, manager)
    for index, batch in enumerate(batches(4)):
        if index in (0, 2, 3):  # 0 and 3 refresh curvature, 2 is stale
            before = state_of(step)
            step(*bad_batch(np.nan if index < 3 else np.inf))
            after = state_of(step)
            changed = {name for name in before if not np.array_equal(before[name], after[name])}
            assert changed <= {"scale_value", "counter", "overflowed_updates"}
            if isinstance(manager, DynamicLossScaleManager):
                assert after["scale_value"] == before["scale_value"] / 2
        step(*batch)
    assert optimizer.rejected_blocks == 0 and optimizer.global_step.asnumpy() == [4]
    assert_same_weights(network, averaged, rtol=1e-6, atol=1e-7)


def test_a_scale_is_its_own_where_another_lay_before(pynative):
    """Scales come and go at one address: an operator compiled with a scale must not outlive it."""
    _, _, optimizer = create()
    for exponent in range(60):
        scaling = LossScaling(DynamicLossScaleManager(2 ** (exponent % 20), 2, 1), optimizer)
        wide, narrow = scaling.unscale((Tensor([3.0], ms.float32), Tensor([0.5], ms.float16)))
        assert wide.asnumpy() == 3.0 * 2.0 ** -(exponent % 20)
        assert narrow.asnumpy() == np.float16(0.5) * np.float16(2.0 ** -(exponent % 20))
        del scaling


@pytest.mark.parametrize("manager, loss_scale, message", [
    (FixedLossScaleManager(512, drop_overflow_update=False), 1024.0,
     "loss_scale=1024 of the optimizer; must be 512 with this loss scale manager; give the optimizer "
     "loss_scale=512"),
    (256.0, 1.0, "loss_scale=1 of the optimizer; must be 256 with this"),
    (FixedLossScaleManager(512), 256.0, "loss_scale=256 of the optimizer; must be 1 with this"),
    (DynamicLossScaleManager(), 2.0, "loss_scale=2 of the optimizer; must be 1 with this"),
])
def test_scales_that_disagree_are_refused(manager, loss_scale, message):
    _, with_loss, optimizer = create(loss_scale=loss_scale)
    with pytest.raises(ValueError, match="^" + message):
        make_train_step(with_loss, optimizer, manager)


def test_unknown_managers_are_refused():
    _, with_loss, optimizer = create()
    with pytest.raises(TypeError, match="^loss_scale_manager='dynamic'; must be None, a float, Fixed"):
        make_train_step(with_loss, optimizer, "dynamic")


@pytest.mark.parametrize("steps, error", [(0, ValueError), (True, TypeError), (2.0, TypeError)])
def test_accumulate_steps_are_checked(steps, error):
    _, with_loss, optimizer = create()
    with pytest.raises(error, match=f"^accumulate_steps={steps}; must be an int >= 1; use 1 to update"):
        make_train_step(with_loss, optimizer, accumulate_steps=steps)


class Quadratic(nn.Cell):
    """``sum((x w' - t)^2) / (2 bs)``."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3, has_bias=False)

    def construct(self, x, t):
        difference = self.dense(x) - t
        return (difference * difference).sum() / (2 * BATCH)


@BOTH_MODES
def test_accumulation_averages_gradients_and_factors(mode):
    ms.set_context(mode=mode)
    micro, updates, rate, damping = 3, 4, 0.05, 0.1
    rng = np.random.default_rng(2)
    data = [(rng.normal(0, 1, (BATCH, 4)).astype(np.float32), rng.normal(0, 1, (BATCH, 3)).astype(np.float32))
            for _ in range(micro * updates)]
    network = Quadratic()
    weight, moment = value(network.dense.weight), 0.0
    optimizer = THOR(network, rate, damping, 0.9, loss_scale=8.0, batch_size=BATCH, frequency=2, split_dim=3)
    step = make_train_step(network, optimizer, accumulate_steps=micro)
    for update in range(updates):
        gradient, a, g = np.zeros((3, 4)), np.zeros((4, 4)), np.zeros((3, 3))
        for x, t in data[update * micro:(update + 1) * micro]:
            before = network.dense.weight.asnumpy().copy()
            d = (x.astype(np.float64) @ weight.T - t) / BATCH
            gradient += d.T @ x / micro
            a += ref.second_moment(x) / micro
            g += ref.second_moment(d) * BATCH ** 2 / micro
            step(Tensor(x), Tensor(t))
        assert not np.array_equal(network.dense.weight.asnumpy(), before)  # it moved in the last micro-batch
        if update % 2 == 0:
            factors = a, g
        weight, moment = ref.momentum_update(
            weight, moment, ref.kronecker_update(gradient, *factors, damping, split_dim=3), rate, 0.9)
        np.testing.assert_allclose(network.dense.weight.asnumpy(), weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(optimizer.global_step.asnumpy(), [updates])


@pytest.mark.parametrize("bad", [0, 1])
def test_overflow_in_one_micro_batch_skips_the_whole_update(pynative, bad):
    network, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer, DynamicLossScaleManager(1024, 2, 1000), accumulate_steps=2)
    data = batches(6)
    for batch in data[:2]:
        step(*batch)
    before = state_of(step)
    for index in (0, 1):
        step(*(bad_batch(np.nan) if index == bad else data[2]))
    after = state_of(step)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == {
        "scale_value", "counter", "overflowed_updates"}
    assert after["scale_value"] == 512
    assert not any(after[name].any() for name in after if name.startswith("accumulated"))
    for batch in data[4:]:
        step(*batch)
    assert optimizer.global_step.asnumpy() == [2]
    assert all(np.isfinite(weight).all() for weight in weights_of(network).values())


@pytest.mark.slow
def test_scaling_and_accumulation_embedded_in_another_graph():
    manager = DynamicLossScaleManager(1024, 2, 1000)
    network, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer, manager, accumulate_steps=2)
    sink = Sink(step)
    for index, batch in enumerate(batches(8)):
        if index in (2, 6):  # a stale step and one that refreshes
            before = state_of(step)
            sink(*bad_batch(np.nan))
            sink(*batch)
            after = state_of(step)
            assert {name for name in before if not np.array_equal(before[name], after[name])} == {
                "scale_value", "counter", "overflowed_updates"}
        sink(*batch)
    assert optimizer.global_step.asnumpy() == [4]
    ms.set_context(mode=ms.PYNATIVE_MODE)
    clean, _ = trained(accumulate_steps=2, count=8)
    assert_same_weights(network, weights_of(clean))
