"""Averages of weights: their equation in float64, what counts as an update, checkpoints, evaluation."""
from __future__ import annotations

import csv
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from models import checkpoint, evaluate, train
from models.averages import with_averages
from models.command_line import LoadError
from models.config import load_config
from models.optimizers import create_loss_scale_manager, create_optimizer
from models.registry import register_network, unregister_network
from models.session import create_session
from tests.helpers import DIGITS
from thor.train import make_train_step

DECAY = 0.3
PYNATIVE = pytest.mark.usefixtures("pynative")


class Net(nn.Cell):
    """Images ``(N, 1, 8, 8)`` to logits ``(N, 10)``."""

    def __init__(self):
        super().__init__()
        ms.set_seed(5)
        self.flatten, self.first, self.norm, self.fc = nn.Flatten(), nn.Dense(64, 6), nn.BatchNorm1d(6), nn.Dense(6, 10)

    def construct(self, x):
        return self.fc(self.norm(self.first(self.flatten(x))))


def factor(update):
    """d of the n-th update, from 1."""
    return min(DECAY, update / (update + 9))


def float64(parameters):
    return {parameter.name: parameter.asnumpy().astype(np.float64) for parameter in parameters}


def averages_of(step):
    return {name.removeprefix("ema."): value for name, value in float64(step.get_parameters()).items()
            if name.startswith("ema.")}


def batch(bad=False):
    random = np.random.default_rng(3)
    images = random.standard_normal((8, 1, 8, 8)) * (np.inf if bad else 1)
    return Tensor(images, ms.float32), Tensor(random.integers(0, 10, 8), ms.int32)


def made(*words):
    """(network, step) of a configuration, with averages."""
    config = load_config(None, ["--data.batch_size=8", "--train.epochs=40", "--optimizer.learning_rate.initial=0.05",
                                *words])
    network = Net()
    optimizer = create_optimizer(config, network, 1)
    step = make_train_step(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer,
                           create_loss_scale_manager(config), config.train.accumulate_steps)
    return network, with_averages(step, network, optimizer, DECAY)


def assert_follows(network, step, call, updates):
    """``call(i)`` is an update where ``updates[i]``; the averages are then those of float64."""
    expected, count = float64(network.get_parameters()), 0
    for i, is_update in enumerate(updates):
        call(i)
        if is_update:
            count += 1
            for name, weight in float64(network.get_parameters()).items():
                expected[name] = factor(count) * expected[name] + (1 - factor(count)) * weight
    found = averages_of(step)
    assert set(found) == set(expected) and "norm.moving_mean" in found
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    moved = float64(network.get_parameters())
    assert max(np.abs(found[name] - moved[name]).max() for name in found) > 1e-3


@PYNATIVE
@pytest.mark.parametrize("name", ["momentum", "thor", "heun", "lookahead(momentum)", "dcasgd"])
def test_averages_follow_their_equation(name):
    """Up to the third update the beginning counts: n / (n + 9) < 0.3."""
    network, step = made(f"--optimizer.name={name}")
    assert_follows(network, step, lambda i: step(*batch()), [True] * 5)


@PYNATIVE
def test_micro_batches_and_skipped_updates_are_no_updates():
    network, step = made("--optimizer.name=momentum", "--train.accumulate_steps=2")
    assert_follows(network, step, lambda i: step(*batch()), [False, True] * 2)
    network, step = made("--optimizer.name=adam", "--loss_scale.policy=dynamic", "--loss_scale.init=8")
    network.norm.set_train(False)  # its statistics are of all batches, those that are not finite among them
    network.norm.use_batch_statistics = False
    assert_follows(network, step, lambda i: step(*batch(bad=i % 3 == 1)), [i % 3 != 1 for i in range(5)])


class Sink(nn.Cell):
    """Steps in one graph, as a data sink runs them."""

    def __init__(self, step):
        super().__init__(auto_prefix=False)
        self.step = step

    def construct(self, *inputs):
        return self.step(*inputs)


@pytest.mark.slow
def test_averages_inside_the_graph_of_a_sink():
    network, step = made("--optimizer.name=momentum")
    sink = Sink(step)
    assert_follows(network, step, lambda i: sink(*batch()), [True] * 5)


@pytest.fixture
def averaged_network():
    register_network("averaged")(lambda model, data: Net())
    yield
    unregister_network("averaged")


WORDS = ["--model.name=averaged", "--optimizer.name=momentum", "--optimizer.learning_rate.initial=0.05",
         "--data.augment=false", "--data.batch_size=479", "--data.eval_batch_size=360", "--train.epochs=2",
         "--device.mode=pynative", f"--train.ema.decay={DECAY}", "--train.record_gradient_norm=true"]


def run(monkeypatch, *words):
    """(results, rows of metrics.csv, newest checkpoint) of a run without pictures."""
    monkeypatch.setattr("models.callbacks.files.draw_curves", lambda rows, path: None)
    config = load_config(DIGITS, [*WORDS, *words])
    results = train.train(config)
    folder = sorted(Path().glob("runs/*/*"))[-1]
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as stream:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]
    return config, results, rows, folder / "checkpoints" / "step-000006.ckpt"


@pytest.mark.slow
@PYNATIVE
def test_a_run_evaluates_saves_and_resumes_its_averages(monkeypatch, averaged_network):
    config, results, rows, path = run(monkeypatch)
    for weights, prefix in (("trained", ""), ("ema", "ema_")):
        again = evaluate.evaluate(config, str(path), weights)
        assert {name: results[prefix + name] for name in again} == again
    assert results["ema_loss"] != results["loss"]
    assert list(rows[0])[-3:] == ["eval_ema_loss", "eval_ema_accuracy", "gradient_norm"]
    assert [row["step"] for row in rows if row["eval_ema_accuracy"]] == ["3", "6"]
    assert float(rows[-1]["eval_ema_accuracy"]) == pytest.approx(results["ema_top_1_accuracy"], abs=1e-8)
    assert all(float(row["gradient_norm"]) > 0 for row in rows)
    middle = path.with_name("step-000003.ckpt")
    *_, resumed_rows, resumed = run(monkeypatch, f"--train.resume={middle}")
    assert resumed_rows == rows[3:]
    one, other = (ms.load_checkpoint(str(file)) for file in (path, resumed))
    differing = [name for name in one if name.startswith("ema.") and
                 not np.array_equal(one[name].asnumpy(), other[name].asnumpy())]
    assert differing == [] and "averaged_step" in one


@PYNATIVE
def test_training_goes_on_after_an_evaluation_as_without_one():
    states = []
    for evaluations in (0, 1):
        network, step = made("--optimizer.name=momentum")
        for _ in range(4):
            step(*batch())
            for _ in range(evaluations):
                with step.averages.in_network():
                    assert np.array_equal(network.fc.weight.asnumpy(), averages_of(step)["fc.weight"])
        states.append(float64(step.get_parameters()))
    assert [name for name, value in states[0].items() if not np.array_equal(value, states[1][name])] == []


@PYNATIVE
def test_averages_are_float32_in_mixed_precision(averaged_network):
    session = create_session(load_config(DIGITS, [*WORDS, "--train.amp_level=O3"]))
    assert_follows(session.network, session.step, lambda i: session.step(*batch()), [True] * 4)
    assert {average.dtype for average in session.step.averages.averages} == {ms.float32}


@PYNATIVE
def test_averages_begin_with_the_weights_of_a_checkpoint_without_them(monkeypatch, averaged_network):
    config, *_, path = run(monkeypatch, "--train.ema.decay=null", "--train.record_gradient_norm=false")
    with pytest.raises(LoadError, match="^--weights=ema; must be trained for .*, which has no averages; train with "):
        evaluate.evaluate(config, str(path), "ema")
    session = create_session(load_config(DIGITS, WORDS))
    assert checkpoint.restore(session, path) == 6
    weights, averages = float64(session.network.get_parameters()), averages_of(session.step)
    assert all(np.array_equal(weights[name], value) for name, value in averages.items())


@PYNATIVE
def test_weights_are_the_trained_ones_after_an_evaluation_that_was_cut_off(averaged_network):
    session = create_session(load_config(DIGITS, WORDS))
    before = float64(session.network.get_parameters())
    with pytest.raises(KeyError), session.step.averages.in_network():
        session.network.fc.weight.set_data(ms.ops.zeros_like(session.network.fc.weight))
        raise KeyError
    after = float64(session.network.get_parameters())
    assert all(np.array_equal(before[name], value) for name, value in after.items())
