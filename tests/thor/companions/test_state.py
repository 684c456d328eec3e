"""State of the companions: resumed bit for bit, untouched by overflow, accumulation, evaluation weights."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.amp import DynamicLossScaleManager

from tests.helpers import companion_cases as cases
from tests.helpers.companion_cases import RATES, arrays
from tests.helpers.modes import operator_by_operator
from thor.companions import DCASGD, SOAP, Heun, Lookahead, Muon, RAdam, Shampoo, evaluation_weights, ranger
from thor.companions.lookahead import evaluation_values
from thor.train import make_train_step

BUILDERS = {
    "radam": lambda p: RAdam(p, RATES, 0.9, 0.9, weight_decay=0.01),
    "muon": lambda p: Muon(p, RATES, weight_decay=0.01, matrices=lambda all: [len(p.shape) > 1 for p in all]),
    "shampoo": lambda p: Shampoo(p, RATES, frequency=2, split_dim=2),
    "soap": lambda p: SOAP(p, RATES, frequency=2, split_dim=2),
    "ranger": lambda p: ranger(p, RATES, k=3),
    "lookahead": lambda p: Lookahead(nn.Adam(p, RATES), 3, 0.5),
    "heun": lambda p: Heun(p, RATES, 0.9, 0.01),
    "dcasgd": lambda p: DCASGD(p, RATES, 2.0, True, delays=[0, 1, 3, 2], momentum=0.9),
}


@operator_by_operator(BUILDERS, graph=["dcasgd"])
def test_saved_and_loaded_after_any_step_goes_on_bit_for_bit(mode, name, tmp_path):
    ms.set_context(mode=mode)
    batches = arrays(7)  # RAdam rectifies, slow weights move, and a gradient is older than the checkpoints
    _, _, step = cases.create(BUILDERS[name])
    cases.train(step, batches[:3])
    ms.save_checkpoint(step, str(tmp_path / "3.ckpt"))
    cases.train(step, batches[3:4])
    ms.save_checkpoint(step, str(tmp_path / "4.ckpt"))
    cases.train(step, batches[4:])
    expected = cases.state_of(step)
    for done in (3, 4):
        _, _, other = cases.create(BUILDERS[name])
        if mode == ms.GRAPH_MODE:  # else MindSpore's own optimizers do not see what is loaded after their first step
            cases.train(other, batches[5:6])  # anything, so that nothing but the checkpoint can help
        assert ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / f"{done}.ckpt")), True) == ([], [])
        cases.train(other, batches[done:])
        got = cases.state_of(other)
        assert set(got) == set(expected)
        assert [key for key in expected if not np.array_equal(got[key], expected[key])] == []


@operator_by_operator(BUILDERS, graph=["ranger", "heun"])
def test_overflow_skips_the_step_and_leaves_the_optimizer_as_it_was(mode, name):
    ms.set_context(mode=mode)
    network, optimizer, step = cases.create(BUILDERS[name], DynamicLossScaleManager(1024.0, 2, 1000))
    good, bad = arrays(2)
    cases.train(step, [good, good])
    before = cases.state_of(step)
    cases.train(step, [(np.full_like(bad[0], np.inf), bad[1])])
    after = cases.state_of(step)
    unseen = ("newest.", "past.", "start.", "first_gradient.")  # written anew by the next step
    changed = {key for key in after if not np.array_equal(after[key], before[key]) and not key.startswith(unseen)}
    assert changed - {"counter"} == {"scale_value", "overflowed_updates"} and float(after["scale_value"]) == 512
    cases.train(step, [good])
    assert int(optimizer.global_step.asnumpy()[0]) == 3
    assert all(np.isfinite(value).all() for value in cases.weights_of(network).values())


class Steep(nn.Cell):
    """``exp(w^2)``: from 1, a step of length 10 ends where it overflows."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor([1.0], ms.float32), name="w")

    def construct(self, x):
        return ops.exp(ops.square(self.w * x)).sum()


def test_overflow_in_the_second_evaluation_of_heun_gives_the_step_up():
    network = Steep()
    optimizer = Heun([network.w], [10.0, 0.1])
    step = make_train_step(network, optimizer, DynamicLossScaleManager(4.0, 2, 1000))
    step(Tensor([1.0], ms.float32))
    assert network.w.asnumpy() == 1.0 and optimizer.moments[0].asnumpy() == 0.0
    assert (int(optimizer.global_step.asnumpy()[0]), int(optimizer.halfway.asnumpy())) == (0, 0)
    step(Tensor([1e-3], ms.float32))
    slope = 2e-6 * np.exp(1e-6)
    np.testing.assert_allclose(network.w.asnumpy(), 1 - 10 * slope, rtol=1e-6)
    assert int(optimizer.global_step.asnumpy()[0]) == 1


@operator_by_operator([name for name in BUILDERS if name != "heun"], graph=["radam"])
def test_two_micro_batches_make_the_step_of_their_mean(mode, name):
    ms.set_context(mode=mode)
    batches = arrays(6)
    network, optimizer, step = cases.create(BUILDERS[name], accumulate_steps=2)
    cases.train(step, batches)
    assert int(optimizer.global_step.asnumpy()[0]) == 3
    whole, _, step = cases.create(BUILDERS[name])
    for i in (0, 2, 4):
        x, y = (np.concatenate(pair) for pair in zip(batches[i], batches[i + 1]))
        step(Tensor(x), Tensor(y), Tensor(2 * cases.BATCH, ms.float32))
    wanted = cases.weights_of(whole)
    for key, value in cases.weights_of(network).items():
        np.testing.assert_allclose(value, wanted[key], rtol=5e-6, atol=1e-6)


def test_heun_refuses_micro_batches():
    with pytest.raises(ValueError, match="^accumulate_steps=2; must be 1 for Heun"):
        cases.create(BUILDERS["heun"], accumulate_steps=2)


def test_lookahead_evaluates_slow_weights_and_goes_on_with_the_fast(pynative):
    network, optimizer, step = cases.create(lambda p: Lookahead(nn.Momentum(p, 0.1, 0.9), 4, 0.5))
    start = cases.weights_of(network)
    cases.train(step, arrays(3))
    fast = cases.weights_of(network)
    assert not np.array_equal(fast["fc.weight"], start["fc.weight"])
    with evaluation_weights(optimizer):
        assert all(np.array_equal(value, start[key]) for key, value in cases.weights_of(network).items())
    assert all(np.array_equal(value, fast[key]) for key, value in cases.weights_of(network).items())
    with pytest.raises(RuntimeError), evaluation_weights(optimizer):
        raise RuntimeError
    assert all(np.array_equal(value, fast[key]) for key, value in cases.weights_of(network).items())
    cases.train(step, arrays(4)[3:])
    assert all(np.array_equal(value.asnumpy(), weight.asnumpy())
               for value, weight in zip(optimizer.synchronisation.slow, network.trainable_params()))


def test_other_optimizers_evaluate_what_they_train():
    network, optimizer, _ = cases.create(lambda p: nn.Momentum(p, 0.1, 0.9))
    before = cases.weights_of(network)
    with evaluation_weights(optimizer):
        assert all(np.array_equal(value, before[key]) for key, value in cases.weights_of(network).items())


def test_slow_weights_of_a_checkpoint_are_found_under_the_names_of_the_network(tmp_path):
    network, optimizer, step = cases.create(lambda p: Lookahead(nn.Momentum(p, 0.1, 0.9), 4, 0.5))
    start = cases.weights_of(network)
    cases.train(step, arrays(3))
    ms.save_checkpoint(step, str(tmp_path / "x.ckpt"))
    contents = ms.load_checkpoint(str(tmp_path / "x.ckpt"))
    assert not np.array_equal(contents["fc.weight"].asnumpy(), start["fc.weight"])
    found = evaluation_values(contents)
    assert all(np.array_equal(found[key].asnumpy(), value) for key, value in start.items())
    assert found["global_step"] is contents["global_step"]


def test_a_loop_of_ones_own_drives_lookahead_and_heun(pynative):
    for build, calls in ((BUILDERS["lookahead"], 1), (BUILDERS["heun"], 2)):
        reference, _, step = cases.create(build)
        cases.train(step, arrays())
        network, optimizer, _ = cases.create(build)
        gradients = ms.value_and_grad(cases.SquaredError(network), None, optimizer.parameters)
        for x, y in arrays():
            for _ in range(calls):
                optimizer(gradients(Tensor(x), Tensor(y))[1])
        wanted = cases.weights_of(reference)
        for key, value in cases.weights_of(network).items():
            np.testing.assert_array_equal(value, wanted[key], err_msg=key)


@pytest.mark.usefixtures("pynative")
def test_lookahead_trains_on_after_an_evaluation_as_without_one():
    states = []
    for evaluations in (0, 1):
        _, optimizer, step = cases.create(lambda p: Lookahead(nn.Momentum(p, RATES, 0.9), 3))
        for one in arrays(5):
            cases.train(step, [one])
            for _ in range(evaluations):
                with evaluation_weights(optimizer):
                    pass
        states.append(cases.state_of(step))
    assert [key for key in states[0] if not np.array_equal(states[0][key], states[1][key])] == []
