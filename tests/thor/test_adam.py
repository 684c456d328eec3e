"""AdamW behind the preconditioner: its five steps in float64, and what THOR hands to it."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, Tensor, nn

from tests.helpers.modes import BOTH_MODES
from tests.helpers.training_cases import BATCH, Classifier, batches, loss_fn
from thor import THOR
from thor.adam import AdamWUpdate
from thor.checks import ArgumentError
from thor.train import make_train_step

RATE, DECAY, BETA1, BETA2, EPSILON = 0.05, 0.1, 0.8, 0.95, 1e-3


def float32(value):
    return Tensor(value, ms.float32)


@BOTH_MODES
@pytest.mark.parametrize("own", [False, True], ids=["one rate", "a rate each"])
def test_five_steps_follow_the_equations(mode, own):
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    start = [random.normal(size=(3, 4)), random.normal(size=4)]
    weights = [Parameter(float32(value), name=f"w{i}") for i, value in enumerate(start)]
    update = AdamWUpdate(ParameterTuple(weights), BETA1, BETA2, (True, False), EPSILON)
    rates, decays = ((RATE, 2 * RATE), (DECAY, 5.0)) if own else ((RATE, RATE), (DECAY, DECAY))
    first, second = [0.0, 0.0], [0.0, 0.0]
    for t in range(1, 6):
        updates = [random.normal(size=value.shape) for value in start]
        update(tuple(map(float32, updates)), tuple(map(float32, rates)) if own else float32(RATE),
               tuple(map(float32, decays)) if own else float32(DECAY))
        for i, u in enumerate(updates):
            first[i] = BETA1 * first[i] + (1 - BETA1) * u
            second[i] = BETA2 * second[i] + (1 - BETA2) * u ** 2
            step = first[i] / (1 - BETA1 ** t) / (np.sqrt(second[i] / (1 - BETA2 ** t)) + EPSILON)
            start[i] = start[i] - rates[i] * (step + (decays[i] if i == 0 else 0.0) * start[i])
    for weight, expected in zip(weights, start):
        np.testing.assert_allclose(weight.asnumpy(), expected, rtol=2e-5, atol=1e-6)


def created(**options):
    network = Classifier()
    optimizer = THOR(network, RATE, 0.3, BETA1, DECAY, batch_size=BATCH, split_dim=4, **options)
    return network, optimizer, make_train_step(nn.WithLossCell(network, loss_fn()), optimizer)


@BOTH_MODES
def test_the_first_step_is_the_sign_of_thors_update(mode):
    """m / (1 - beta1) is u, the root of v / (1 - beta2) its size."""
    ms.set_context(mode=mode)
    plain, _, step = created(decay_filter=lambda parameter: False)
    start = {p.name: p.asnumpy().astype(np.float64) for p in plain.trainable_params()}
    step(*batches(1)[0])
    u = {name: (start[name] - p.asnumpy()) / RATE for name, p in plain.parameters_dict().items() if name in start}
    network, optimizer, step = created(rule="adamw", beta2=BETA2)
    step(*batches(1)[0])
    for name, value in start.items():
        clear = np.abs(u[name]) > 1e-4  # beside epsilon and the rounding of a difference
        assert clear.any()
        expected = value - RATE * (np.sign(u[name]) + DECAY * value)
        got = network.parameters_dict()[name].asnumpy()
        np.testing.assert_allclose(got[clear], expected[clear], atol=1e-4 * RATE)
    assert [p.name for p in optimizer.moments] == [f"moments.{p.name}" for p in optimizer.weights]


@pytest.mark.usefixtures("pynative")
def test_a_step_that_is_not_finite_leaves_the_moments():
    _, optimizer, step = created(rule="adamw")
    first, second = batches(2)
    step(*first)
    before = {p.name: p.asnumpy().copy() for p in optimizer.get_parameters() if "moment" in p.name or p.name == "moves"}
    assert len(before) == 2 * len(optimizer.weights) + 1 and before["moves"] == 1
    step(Tensor(np.full(second[0].shape, np.nan), ms.float32), second[1])
    assert optimizer.skipped_updates == 1
    for p in optimizer.get_parameters():
        if p.name in before:
            np.testing.assert_array_equal(p.asnumpy(), before[p.name])


@pytest.mark.parametrize("arguments, message", [
    ({"rule": "adam"}, "rule='adam'; must be one of momentum, adamw, normalized, orthogonal; did you mean adamw?"),
    ({"beta2": 1.0}, "beta2=1.0; must be a number > 0 and < 1; use 0.999"),
    ({"rule": "adamw", "use_nesterov": True},
     "use_nesterov=True; must be False with rule='adamw'; only rule='momentum' reads it"),
    ({"rule": "adamw", "enable_clip_grad": True},
     "enable_clip_grad=True; must be False with rule='adamw'; only rule='momentum' reads it"),
    ({"rule": "adamw", "momentum": 1.0}, "momentum=1.0; must be a number >= 0 and < 1; it is AdamW's beta1"),
])
def test_wrong_arguments_are_one_line(arguments, message):
    arguments = {"momentum": 0.9, **arguments}
    with pytest.raises(ArgumentError) as raised:
        THOR(Classifier(), RATE, 0.3, **arguments)
    assert str(raised.value) == message
