"""What a train step is given and gives back: networks that return more than their loss, inputs by keyword."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import DynamicLossScaleManager, Model, Tensor, nn, ops

from tests.helpers.modes import compiled_once
from tests.helpers.training_cases import (
    Classifier,
    Refreshes,
    Sink,
    arrays,
    assert_same_weights,
    batches,
    create,
    dataset,
    loss_fn,
    weights_of,
)
from thor import ConvertModelUtils
from thor.companions import DCASGD, Heun, Lookahead
from thor.train import make_train_step


class LossAndMore(nn.Cell):
    """``(loss, logits, (classes, logarithms))``; the logarithms of 0 have no finite derivative."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.zero = network, loss_fn(), Tensor(0.0, ms.float32)

    def construct(self, images, labels, weight=1.0):
        logits = self.network(images)
        more = logits.argmax(1), ops.log(ops.square(logits) * self.zero)
        return self.loss(logits, labels) * weight, logits, more


def outputs_of(network, images):
    """Operator by operator."""
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    outputs = network(images).asnumpy()
    ms.set_context(mode=mode)
    return outputs


@compiled_once("how", [(None, 1), (DynamicLossScaleManager(1024, 2, 2), 2)], ["plain", "scaled, accumulated"],
               "scaled, accumulated")
def test_the_loss_alone_is_differentiated(mode, how):
    ms.set_context(mode=mode)
    manager, accumulate_steps = how
    plain, with_loss, optimizer = create(frequency=2)
    network, _, other = create(frequency=2)
    step = make_train_step(with_loss, optimizer, manager, accumulate_steps)
    tuple_step = make_train_step(LossAndMore(network), other, manager, accumulate_steps)
    for images, labels in batches(3 * accumulate_steps):  # two refreshes
        expected = outputs_of(network, images)
        loss, logits, (classes, _) = tuple_step(images, labels=labels)
        np.testing.assert_array_equal(loss.asnumpy(), step(images, label=labels).asnumpy())
        np.testing.assert_allclose(logits.asnumpy(), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(classes.asnumpy(), expected.argmax(1))
    assert_same_weights(network, weights_of(plain), rtol=1e-6, atol=1e-7)
    assert other.rejected_blocks == 0 and other.unmeasured_layers == []
    if mode == ms.GRAPH_MODE:
        assert [len(graph.compile_cache) for graph in (tuple_step.second_order, tuple_step.stale)] == [1, 1]


@pytest.mark.slow
def test_several_outputs_in_another_graph(pynative):
    plain, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    losses = [step(*batch).asnumpy() for batch in batches(7)]
    ms.set_context(mode=ms.GRAPH_MODE)
    network, _, optimizer = create()
    record, sink = Refreshes(optimizer), Sink(make_train_step(LossAndMore(network), optimizer))
    for batch, loss in zip(batches(7), losses):
        np.testing.assert_allclose(sink(*batch)[0].asnumpy(), loss, rtol=1e-5)
        record.note()
    assert record.steps == [0, 3, 6] and len(sink.compile_cache) == 1
    assert_same_weights(network, weights_of(plain))


def test_several_outputs_in_a_model(pynative):
    plain, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    for batch in batches(4):
        step(*batch)
    network, _, optimizer = create()
    outputs = LossAndMore(network)
    model = ConvertModelUtils.convert_to_thor_model(Model(outputs), outputs, optimizer=optimizer)
    model.train(1, dataset(4), callbacks=[ms.train.LossMonitor()], dataset_sink_mode=False)
    assert_same_weights(network, weights_of(plain), rtol=1e-6, atol=1e-7)


def momentum(network):
    return nn.Momentum(network.trainable_params(), 0.1, 0.9)


STEPS = {"momentum": momentum, "heun": lambda network: Heun(network.trainable_params(), 0.1, 0.9),
         "lookahead": lambda network: Lookahead(momentum(network), k=2),
         "dcasgd": lambda network: DCASGD(network.trainable_params(), 0.1, delays=1)}


@pytest.mark.parametrize("optimizer", STEPS.values(), ids=STEPS)
def test_steps_of_other_optimizers(pynative, optimizer):
    plain, network = Classifier(), Classifier()
    step = make_train_step(nn.WithLossCell(plain, loss_fn()), optimizer(plain))
    tuple_step = make_train_step(LossAndMore(network), optimizer(network))
    for images, labels in batches(2):
        expected = step(images, label=labels).asnumpy()
        np.testing.assert_array_equal(tuple_step(labels=labels, images=images)[0].asnumpy(), expected)
    assert_same_weights(network, weights_of(plain), rtol=1e-6, atol=1e-7)


def test_keywords_for_a_ready_train_cell(pynative):
    plain, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    network, with_loss, optimizer = create()
    cell = nn.TrainOneStepCell(with_loss, optimizer)
    ready = ConvertModelUtils.convert_to_thor_model(cell, network=cell).train_network
    for images, labels in batches(4):
        np.testing.assert_array_equal(ready(label=labels, data=images).asnumpy(), step(images, labels).asnumpy())
    assert_same_weights(network, weights_of(plain), rtol=1e-6, atol=1e-7)


class ByKeywordAlone(nn.WithLossCell):
    def construct(self, data, *, label):
        return super().construct(data, label)


@pytest.mark.parametrize("create_network, keywords, message", [
    (nn.WithLossCell, {"labels": 1}, r"labels=\.\.\. for WithLossCell\.construct\(data, label\) "
     r"\(missing a required argument: 'label'\); must be its positional arguments; pass inputs in their order"),
    (nn.WithLossCell, {"data": 1, "label": 1}, r"data=\.\.\., label=\.\.\. for .*multiple values for argument 'data'"),
    (ByKeywordAlone, {"label": 1}, r"label=\.\.\. for ByKeywordAlone.construct\(data, \*, label\) \(a graph takes "),
])
def test_keywords_that_name_no_input_are_refused(create_network, keywords, message):
    network, _, optimizer = create()
    step = make_train_step(create_network(network, loss_fn()), optimizer)
    with pytest.raises(TypeError, match="^" + message):
        step(Tensor(arrays(1)[0][0]), **keywords)
