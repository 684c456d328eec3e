"""ConvertModelUtils: the article's program, mixed precision, evaluation during training, what is refused."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import FixedLossScaleManager, Model, Tensor, nn, ops
from mindspore import dataset as ds

from tests.helpers.training_cases import (
    BATCH,
    Classifier,
    Refreshes,
    arrays,
    assert_same_weights,
    batches,
    create,
    dataset,
    loss_fn,
    weights_of,
)
from thor import THOR, ConvertModelUtils, ConvertNetUtils
from thor.train import make_train_step

convert = ConvertModelUtils().convert_to_thor_model


class Images(nn.Cell):
    """A convolutional classifier with BatchNorm."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(3)
        self.conv, self.bn, self.flatten = nn.Conv2d(1, 4, 3, has_bias=True), nn.BatchNorm2d(4), nn.Flatten()
        self.head = nn.Dense(64, 3)
        for parameter in self.trainable_params():
            if "bn" not in parameter.name:
                parameter.set_data(Tensor(rng.normal(0, 0.3, parameter.shape).astype(np.float32)))

    def construct(self, x):
        return self.head(self.flatten(self.bn(self.conv(x))))


def image_dataset(count):
    rng = np.random.default_rng(4)
    columns = {"data": rng.normal(0, 1, (count * BATCH, 1, 4, 4)).astype(np.float32),
               "label": rng.integers(0, 3, count * BATCH).astype(np.int32)}
    return ds.NumpySlicesDataset(columns, shuffle=False).batch(BATCH)


class Losses(ms.train.Callback):
    def __init__(self):
        self.values = []

    def on_train_step_end(self, run_context):
        self.values.append(float(run_context.original_args().net_outputs.asnumpy()))


def test_the_articles_program(pynative):
    """Compiled, it is the program for images of ``test_article_programs``."""
    from thor import THOR, ConvertModelUtils

    net, loss = Images(), nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    lr, damping = Tensor(np.full(20, 0.05, np.float32)), np.full(20, 0.3, np.float32)
    loss_scale = FixedLossScaleManager(128, drop_overflow_update=False)
    opt = THOR(net, lr, Tensor(damping), 0.9, 5e-4, 128, BATCH, split_indices=[0, 1])
    model = Model(net, loss_fn=loss, optimizer=opt, loss_scale_manager=loss_scale, metrics={"acc"},
                  amp_level="O2", keep_batchnorm_fp32=False)
    model = ConvertModelUtils().convert_to_thor_model(
        model=model, network=net, loss_fn=loss, optimizer=opt, loss_scale_manager=loss_scale, metrics={"acc"},
        amp_level="O2", keep_batchnorm_fp32=False, frequency=4)
    data, losses, refreshes = image_dataset(3), Losses(), Refreshes(opt)
    model.train(3, data, callbacks=[losses, refreshes], sink_size=data.get_dataset_size(),
                dataset_sink_mode=True)
    assert refreshes.steps == [0, 4, 8] and opt.get_frequency() == 4
    assert len(losses.values) == 9 and sum(losses.values[-3:]) < 0.5 * sum(losses.values[:3])
    accuracy = model.eval(data, dataset_sink_mode=False)["acc"]
    net.set_train(False)
    predicted = np.concatenate([net(Tensor(x)).asnumpy().argmax(1)
                                for x, _ in data.create_tuple_iterator(num_epochs=1, output_numpy=True)])
    labels = np.concatenate([y for _, y in data.create_tuple_iterator(num_epochs=1, output_numpy=True)])
    assert accuracy == pytest.approx(np.mean(predicted == labels))


def trained_images(amp_level, **options):
    network, loss = Images(), loss_fn()
    optimizer = THOR(network, 0.0, 0.1, 0.9, batch_size=BATCH, frequency=1, loss_scale=16.0,
                     running_average=0.5)
    model = convert(Model(network, loss, optimizer), network, loss, optimizer, amp_level=amp_level,
                    loss_scale_manager=FixedLossScaleManager(16.0, drop_overflow_update=False), **options)
    model.train(1, image_dataset(1), dataset_sink_mode=False)
    assert {p.dtype for p in optimizer.get_parameters() if p.dtype != ms.int32} == {ms.float32}
    return {(index, role): layer.factor_parameters[role].asnumpy()
            for index, layer in enumerate(optimizer.registration.layers) for role in ("a", "g")}


@pytest.fixture(scope="module")
def full_precision():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    return trained_images("O0")


@pytest.mark.parametrize("amp_level, options", [
    ("O1", {}), ("O2", {}), ("O3", {}), ("O3", {"keep_batchnorm_fp32": True}), ("auto", {})])
def test_factors_at_reduced_precision(pynative, full_precision, amp_level, options):
    factors = trained_images(amp_level, **options)
    for name, expected in full_precision.items():
        scale = np.abs(expected).max()
        assert scale > 1e-3
        np.testing.assert_allclose(factors[name], expected, atol=1e-2 * scale, err_msg=str(name))
    assert any(not np.array_equal(factors[name], full_precision[name]) for name in factors)


def expected_weights(count):
    network, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    for batch in batches(count):
        step(*batch)
    return weights_of(network)


@pytest.mark.slow
def test_each_graph_is_compiled_once_and_evaluation_during_training_changes_nothing():
    network, with_loss, optimizer = create()
    loss = loss_fn()
    model = convert(Model(network, loss, optimizer), network, loss, optimizer, metrics={"acc", "loss"})
    accuracies = []

    class Evaluate(ms.train.Callback):
        def on_train_epoch_end(self, run_context):
            accuracies.append(model.eval(dataset(2), dataset_sink_mode=False)["acc"])
            ms.set_context(mode=ms.PYNATIVE_MODE)
            network.set_train(False)
            logits = [network(Tensor(x)).asnumpy() for x, _ in arrays(2)]
            ms.set_context(mode=ms.GRAPH_MODE)
            right = [np.mean(z.argmax(1) == y) for z, (_, y) in zip(logits, arrays(2))]
            assert accuracies[-1] == pytest.approx(np.mean(right))
            network.set_train(True)

    record = Refreshes(optimizer)
    model.train(2, dataset(4), callbacks=[record, Evaluate()], dataset_sink_mode=False)
    assert len(accuracies) == 2 and record.steps == [0, 3, 6]
    step = model.train_network
    assert [len(graph.compile_cache) for graph in (step.second_order, step.stale, step)] == [1, 1, 0]
    with_loss.set_train(False)
    for count in (BATCH, 2):  # another shape is another graph: the count can count
        with_loss(*(Tensor(array[:count]) for array in arrays(1)[0]))
    assert len(with_loss.compile_cache) == 2
    ms.set_context(mode=ms.PYNATIVE_MODE)
    other, with_loss, other_optimizer = create()
    other_step = make_train_step(with_loss, other_optimizer)
    for batch in batches(4) * 2:
        other_step(*batch)
    assert_same_weights(network, weights_of(other))


def test_a_network_that_computes_its_loss(pynative):
    network, with_loss, optimizer = create()
    model = convert(Model(with_loss, optimizer=optimizer), with_loss, optimizer=optimizer)
    model.train(1, dataset(4), dataset_sink_mode=False)
    assert_same_weights(network, expected_weights(4))


def test_the_evaluation_network_of_the_model_is_kept(pynative):
    network, with_loss, optimizer = create()
    evaluate = nn.WithEvalCell(network, loss_fn())
    model = Model(with_loss, optimizer=optimizer, eval_network=evaluate, metrics={"acc"},
                  eval_indexes=[0, 1, 2])
    model = convert(model, with_loss, optimizer=optimizer, metrics={"acc"})
    right = [np.mean(network(x).asnumpy().argmax(1) == y.asnumpy()) for x, y in batches(2)]
    assert model.eval(dataset(2), dataset_sink_mode=False) == {"acc": pytest.approx(np.mean(right))}


def test_accumulation_through_conversion(pynative):
    network, _, optimizer = create()
    loss = loss_fn()
    model = convert(Model(network, loss, optimizer), network, loss, optimizer, accumulate_steps=2)
    record = Refreshes(optimizer)
    model.train(2, dataset(4), callbacks=record, dataset_sink_mode=False)
    assert record.steps == [1, 7] and optimizer.global_step.asnumpy() == [4]  # updates 0 and 3


def test_predictions_after_training(pynative):
    network, _, optimizer = create()
    loss = loss_fn()
    model = convert(Model(network, loss, optimizer), network, loss, optimizer, metrics={"acc"})
    model.train(1, dataset(2), dataset_sink_mode=False)
    x, _ = batches(1)[0]
    expected = network.set_train(False)(x).asnumpy()
    np.testing.assert_array_equal(model.predict(x).asnumpy(), expected)


unscale = ops.MultitypeFuncGraph("unscale")


@unscale.register("Tensor", "Tensor")
def _unscale(scale, gradient):
    return gradient / scale


class ScaledTrainCell(nn.TrainOneStepWithLossScaleCell):
    """A train cell that unscales its gradients itself, as BERT's do."""

    def construct(self, x, y):
        loss = self.network(x, y)
        scale = self.scale_sense.reshape(())
        gradients = self.grad(self.network, self.weights)(x, y, ops.ones_like(loss) * scale)
        gradients = self.hyper_map(ops.partial(unscale, scale), gradients)
        return ops.depend(loss, self.optimizer(gradients))


def test_a_train_cell_with_a_loss_scale_of_its_own(pynative):
    network, with_loss, optimizer = create()
    cell = ScaledTrainCell(with_loss, optimizer, Tensor(512.0, ms.float32))
    convert(Model(cell), cell).train(1, dataset(4), dataset_sink_mode=False)
    assert_same_weights(network, expected_weights(4))


def test_other_optimizers_leave_the_model_unchanged():
    network = Classifier()
    optimizer = nn.Momentum(network.trainable_params(), 0.1, 0.9)
    model = Model(network, loss_fn(), optimizer)
    assert convert(model, network, loss_fn(), optimizer) is model
    cell = nn.TrainOneStepCell(nn.WithLossCell(network, loss_fn()), optimizer)
    assert convert(model, cell) is model


def test_works_as_a_static_method_too(pynative):
    network, with_loss, optimizer = create()
    ConvertNetUtils.convert_to_thor_net(network)
    model = ConvertModelUtils.convert_to_thor_model(Model(with_loss), with_loss, optimizer=optimizer,
                                                    frequency=2)
    record = Refreshes(optimizer)
    model.train(1, dataset(4), callbacks=record, dataset_sink_mode=False)
    assert record.steps == [0, 2]


@pytest.mark.parametrize("arguments, error, message", [
    ({"model": "model"}, TypeError, "model='model'; must be a mindspore.Model; pass Model"),
    ({"network": None}, TypeError, "network=None; must be a mindspore.nn.Cell; pass the network to train"),
    ({"frequency": 0}, ValueError, "frequency=0; must be an int >= 1"),
    ({"amp_level": "O9"}, ValueError, "amp_level='O9'; must be one of"),
    ({"accumulate_steps": 0}, ValueError, "accumulate_steps=0; must be an int >= 1"),
    ({"loss_scale_manager": FixedLossScaleManager(8.0, False)}, ValueError,
     "loss_scale=1 of the optimizer; must be 8"),
])
def test_wrong_arguments_are_refused(arguments, error, message):
    network, _, optimizer = create()
    loss = loss_fn()
    arguments = {"model": Model(network, loss, optimizer), "network": network, "loss_fn": loss,
                 "optimizer": optimizer, **arguments}
    with pytest.raises(error, match="^" + message):
        convert(**arguments)


def test_what_a_ready_train_cell_cannot_honour_is_said(caplog):
    _, with_loss, optimizer = create()
    cell = nn.TrainOneStepCell(with_loss, optimizer)
    with pytest.raises(ValueError, match="^accumulate_steps=2; must be 1 with a ready train cell; pass the"):
        convert(Model(cell), cell, accumulate_steps=2)
    convert(Model(cell), cell)
    assert caplog.messages == []
    convert(Model(cell), cell, amp_level="O2", loss_scale_manager=FixedLossScaleManager(8.0))
    assert [message.partition(":")[0] for message in caplog.messages] == ["amp_level and loss_scale_manager"]


def test_learning_rate_callbacks_reach_the_optimizer(pynative):
    from mindspore.train import LearningRateScheduler

    network = nn.SequentialCell(nn.Dense(4, 5), nn.Dense(5, 3))
    optimizer = THOR(network, 0.1, 0.1, 0.9, batch_size=8, frequency=2)
    loss = nn.CrossEntropyLoss()
    model = ConvertModelUtils.convert_to_thor_model(Model(network, loss, optimizer), network=network, loss_fn=loss,
                                                    optimizer=optimizer)
    random = np.random.default_rng(0)
    data = ds.NumpySlicesDataset((random.normal(size=(24, 4)).astype(np.float32),
                                  random.integers(0, 3, 24).astype(np.int32)), ["x", "y"]).batch(8)
    model.train(2, data, callbacks=[LearningRateScheduler(lambda rate, step: rate * 0.5)], dataset_sink_mode=False)
    assert float(optimizer.learning_rate.asnumpy()) == pytest.approx(0.1 * 0.5 ** 6)


def test_a_layer_that_does_not_run_is_named_once(caplog):
    class First(nn.SequentialCell):
        def construct(self, x):
            return self[0](x)

    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = First(nn.Dense(4, 3), nn.Dense(4, 3))
    optimizer = THOR(network, 0.1, 0.1, 0.9, batch_size=8, frequency=1)
    step = make_train_step(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    for _ in range(2):
        step(Tensor(np.eye(8, 4, dtype=np.float32)), Tensor(np.arange(8) % 3, ms.int32))
    assert optimizer.unmeasured_layers == ["1"]
    assert optimizer.rejected_blocks == 0
    assert [r.getMessage().split(" did")[0] for r in caplog.records if r.name == "thor"] == ["1"]
