"""Policies in training: what is skipped is counted, both modes agree to the bit, a resumed run goes on alike."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from tests.helpers import emulated
from thor import THOR, CurvatureOptions, registration
from thor.backends import Backend, blas, host
from thor.backends.cpu import CpuBackend
from thor.backends.gpu import GpuBackend
from thor.curvature import FrobeniusPolicy, TracePolicy, UpdatePolicy
from thor.registration import tap_network
from thor.train import make_train_step

BATCH = 8


class Network(nn.Cell):
    """A grouped convolution, BatchNorm, an embedding and a Dense layer in three blocks: every kind of factor."""

    def __init__(self):
        super().__init__()
        ms.set_seed(1)  # of the biases
        rng = np.random.default_rng(0)

        def weight(*shape):
            return Tensor(0.3 * rng.standard_normal(shape).astype(np.float32))

        self.first = nn.Conv2d(2, 8, 3, stride=2, pad_mode="same", group=2, has_bias=True,
                               weight_init=weight(8, 1, 3, 3))
        self.norm = nn.BatchNorm2d(8)
        self.table = nn.Embedding(7, 4, embedding_table=weight(7, 4))
        self.last = nn.Dense(132, 4, weight_init=weight(4, 132))

    def construct(self, images, ids, targets):
        maps = self.norm(self.first(images))
        rows = ms.ops.concat((maps.reshape(maps.shape[0], -1), self.table(ids)), 1)
        difference = self.last(rows) - targets
        return (difference * difference).mean()


def batches(count):
    rng = np.random.default_rng(1)
    return [(Tensor(rng.standard_normal((BATCH, 2, 8, 8)), ms.float32), Tensor(rng.integers(0, 7, BATCH), ms.int32),
             Tensor(rng.standard_normal((BATCH, 4)), ms.float32)) for _ in range(count)]


def create(policy, backend=None, **options):
    network = Network()
    options = {"fold_bias": True, "batchnorm_blocks": True, "split_dim": 64, **options}
    if backend is not None:
        tap_network(network, CurvatureOptions(**options), backend, policy)
    optimizer = THOR(network, 0.02, 0.1, 0.9, batch_size=BATCH, update=policy, **options)
    return optimizer, make_train_step(network, optimizer)


def train(policy, steps=4, **options):
    """The optimizer after ``steps`` steps and the status of its layers after each."""
    optimizer, step = create(policy, **options)
    history = []
    for batch in batches(steps):
        step(*batch)
        history.append(statuses_of(optimizer))
    return optimizer, history


def statuses_of(optimizer):
    return [row.status for row in optimizer.curvature_report()]


def state_of(cell):
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


def inverses_of(optimizer):
    """By layer and role; ``("table", "diagonal")`` is the A of the embedding."""
    found = {(layer, role): blocks for layer, roles in optimizer.inverses().items() for role, blocks in roles.items()}
    return {**found, ("table", "diagonal"): state_of(optimizer)["inverse_a.table"]}


def assert_same_state(one, two, leave_out=()):
    shared = [name for name in one if name in two and not name.startswith(tuple(leave_out))]
    assert len(shared) > 20
    for name in shared:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


POLICIES = {"trace": lambda: TracePolicy(2, 0.1, 0.09), "frobenius": lambda: FrobeniusPolicy(1, 0.3),
            "growing": lambda: UpdatePolicy(((0, 1), (1, 2)))}


STEPS = {"trace": 5, "frobenius": 4, "growing": 4}


@pytest.fixture(scope="module")
def trained():
    """By name of the policy, of a run operator by operator: the status of layers and the state after each step."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    found = {}
    for name, policy in POLICIES.items():
        optimizer, step = create(policy())
        runs = found[name] = []
        for batch in batches(STEPS[name]):
            step(*batch)
            runs.append((statuses_of(optimizer), state_of(step)))
    return found


def assert_trained_as(optimizer, history, run, rtol, atol):
    assert history == [statuses for statuses, _ in run]
    for weight in optimizer.weights:
        np.testing.assert_allclose(weight.asnumpy(), run[-1][1][weight.name], rtol=rtol, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trace", "frobenius"])  # the other one's graph is that of fixed intervals
def test_graph_and_pynative_agree_to_the_bit(trained, name):
    ms.set_context(mode=ms.GRAPH_MODE)
    optimizer, history = train(POLICIES[name](), STEPS[name])
    assert_trained_as(optimizer, history, trained[name], rtol=1e-5, atol=1e-7)
    seen = {status for row in history for status in row}
    assert seen == ({"refreshed", "kept", "stopped"} if name == "trace" else {"refreshed"})


def counting(monkeypatch, name, module=blas, calls=None):
    calls = [] if calls is None else calls
    original = getattr(module, name)

    def counted(*arguments, **keywords):
        calls.append(1)
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.fixture
def counted(monkeypatch):
    """The backend whose arithmetic is Python's, where it can be counted; kernels skip alike, see test_kernels."""
    monkeypatch.setattr(registration, "create_backend", lambda precision: CpuBackend())
    ms.set_context(mode=ms.PYNATIVE_MODE)


def counting_moments(monkeypatch):
    """Second moments of convolutions on the host, of Dense layers by MindSpore's own product."""
    return counting(monkeypatch, "covariance", Backend, counting(monkeypatch, "add_second_moment"))


class OnlyLast(UpdatePolicy):
    """After the first refresh, the last two factors alone."""

    gated = True

    def select(self, opened, change, distance, earlier_distance):
        return opened, Tensor([False] * 4 + [True] * 2)


@pytest.mark.usefixtures("counted")
def test_what_is_not_refreshed_is_neither_measured_nor_inverted(monkeypatch):
    optimizer, step = create(OnlyLast(1))
    inverses, moments = counting(monkeypatch, "invert"), counting_moments(monkeypatch)
    squares = counting(monkeypatch, "squares", host)
    first, second = batches(2)
    step(*first)
    assert len(inverses) == sum(len(blocks) for roles in optimizer.inverses().values() for blocks in roles.values())
    measured = len(moments)
    before = inverses_of(optimizer)
    inverses.clear(), moments.clear()
    step(*second)
    assert len(inverses) == 4  # of the last layer, three blocks of A and one of G
    assert len(moments) == 2 < measured
    after = inverses_of(optimizer)
    changed = {place for place in after if not np.array_equal(after[place], before[place])}
    assert changed == {("last", "a"), ("last", "g")}
    assert [row.refreshes for row in optimizer.curvature_report()] == [1, 1, 1, 2]
    assert not squares  # of which traces are made, that this policy does not read


@pytest.mark.usefixtures("counted")
def test_a_kept_layer_is_not_even_measured_but_one_that_must_be_averaged_first_is(monkeypatch):
    def moments_of_second_refresh(averaged_first):
        optimizer, step = create(TracePolicy(1, 1e6))
        if averaged_first:
            optimizer.measure_always()
        first, second = batches(2)
        step(*first)
        inverses, moments = counting(monkeypatch, "invert"), counting_moments(monkeypatch)
        step(*second)
        assert len(inverses) == 0 and {row.status for row in optimizer.curvature_report()} == {"kept"}
        return len(moments)

    assert moments_of_second_refresh(averaged_first=False) == 0
    assert moments_of_second_refresh(averaged_first=True) > 6


@pytest.mark.slow
def test_early_and_late_choice_agree(trained, pynative):
    """Whether the trace is looked at before or after measuring makes no difference to training."""
    assert [trained["trace"][i][0][2] for i in (0, 2, 4)] == ["refreshed", "kept", "refreshed"]
    optimizer, step = create(POLICIES["trace"]())
    optimizer.measure_always()
    for batch, (statuses, _) in zip(batches(STEPS["trace"]), trained["trace"]):
        step(*batch)
        assert statuses_of(optimizer) == statuses
    assert_same_state(trained["trace"][-1][1], state_of(step), leave_out=("curvature_gates",))


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_stopped_means_stopped_and_traces_are_measured_only_of_layers_that_are_looked_at(monkeypatch):
    squares = counting(monkeypatch, "squares", host)
    optimizer, step = create(TracePolicy(1, 1e6, 1e6))
    inverses = {}
    for batch, status, looked_at in zip(batches(3), ("refreshed", "stopped", "stopped"), (True, True, False)):
        squares.clear()
        step(*batch)
        assert statuses_of(optimizer) == [status] * 4 and bool(squares) == looked_at
        if status == "refreshed":
            inverses = inverses_of(optimizer)
    make_train_step(optimizer.registration.network, optimizer)(*batches(1)[0])
    for place, blocks in inverses_of(optimizer).items():
        np.testing.assert_array_equal(blocks, inverses[place])


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
def test_thresholds_of_zero_train_as_fixed():
    fixed, _ = train(UpdatePolicy(2), steps=3)
    rule, history = train(TracePolicy(2, 0.0, 0.0), steps=3)
    assert history == [["refreshed"] * 4] * 3
    assert_same_state(state_of(fixed), state_of(rule), leave_out=("curvature_gates", "change_of", "trace_of"))


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_a_run_goes_on_from_its_state_to_the_bit(trained, pynative, name):
    _, step = create(POLICIES[name]())
    saved = {key: ms.Parameter(Tensor(value), name=key) for key, value in trained[name][1][1].items()}
    not_loaded, unexpected = ms.load_param_into_net(step, saved, strict_load=True)
    assert not not_loaded and not unexpected
    for batch in batches(4)[2:]:
        step(*batch)
    assert_same_state(trained[name][3][1], state_of(step))


@pytest.mark.slow
@pytest.mark.parametrize("name, steps", [("trace", 5), ("frobenius", 3)])
def test_a_device_that_inverts_whole_batches_agrees_with_the_cpu(trained, pynative, name, steps):
    device, history = train(POLICIES[name](), steps=steps, backend=GpuBackend(emulated.gpu()))
    assert_trained_as(device, history, trained[name][:steps], rtol=1e-3, atol=2e-5)


@pytest.mark.usefixtures("pynative")
def test_traces_are_those_of_the_factors():
    """tr(HW A x G) of every layer, against its own factors."""
    optimizer, step = create(UpdatePolicy(1), record_curvature=True, running_average=0.5, split_dim=None)
    step(*batches(1)[0])
    report = {row.name: row for row in optimizer.curvature_report()}
    layers = {layer.name: layer for layer in optimizer.registration.layers}
    positions = {"first": 16.0}
    for name, layer in layers.items():
        traces = [value.sum() if value.ndim == 1 else np.trace(value, axis1=1, axis2=2).sum()
                  for value in (layer.factor_parameters[role].asnumpy().astype(np.float64)
                                for role in ("a", "g", "unit") if role in layer.factor_parameters)]
        expected = np.prod(traces) * positions.get(name, 1.0)
        assert report[name].trace == pytest.approx(expected, rel=1e-5), name
        assert report[name].change is None and report[name].condition >= 1.0
