"""The two programs of MindSpore's articles on THOR, small, with nothing changed but where they import it from.

Written as published: conversion by an instance, tables of rates and damping as Tensors, positions of arguments, cuts of
the published networks, a train cell with a fixed scale, buckets of sequence lengths, epochs by sink.
"""
from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import FixedLossScaleManager, Model, Tensor, nn, ops
from mindspore.train import LossMonitor, TimeMonitor

import thor.train
from thor import THOR, ConvertModelUtils

BATCH, STEPS, FREQUENCY = 4, 6, 2
RATE = np.linspace(0.05, 0.02, STEPS).astype(np.float32)
DAMPING = np.linspace(0.2, 0.1, STEPS).astype(np.float32)


def filled(network):
    rng = np.random.default_rng(3)
    for parameter in network.trainable_params():
        if "gamma" not in parameter.name:
            parameter.set_data(Tensor(rng.normal(0, 0.3, parameter.shape).astype(np.float32)))
    return network


def images():
    return filled(nn.SequentialCell(nn.Conv2d(1, 4, 3, 2, "pad", 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                                    nn.Dense(64, 5)))


def image_data():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(BATCH * STEPS, 1, 8, 8)).astype(np.float32),
            rng.integers(0, 5, BATCH * STEPS).astype(np.int32))


def weights(network):
    return [parameter.asnumpy().copy() for parameter in network.trainable_params()]


def assert_same(network, start, expected, error):
    """Weights are off by no more than ``error`` of how far they moved."""
    assert len(network.trainable_params()) == len(expected)
    for parameter, first, value in zip(network.trainable_params(), start, expected):
        assert np.abs(parameter.asnumpy() - value).max() <= error * np.abs(value - first).max(), parameter.name


def image_program(amp_level):
    from thor import thor  # the import

    net, (x, labels) = images(), image_data()
    dataset = ds.NumpySlicesDataset({"image": x, "label": labels}, shuffle=False).batch(BATCH, drop_remainder=True)
    step_size = dataset.get_dataset_size()
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    loss_scale = FixedLossScaleManager(128, drop_overflow_update=False)
    opt = thor(net, Tensor(RATE), Tensor(DAMPING), 0.9, 5e-4, 128.0, BATCH, split_indices=[26, 53],
               frequency=FREQUENCY)
    model = Model(net, loss_fn=loss, optimizer=opt, loss_scale_manager=loss_scale, metrics={"acc"},
                  amp_level=amp_level, keep_batchnorm_fp32=False)
    model = ConvertModelUtils().convert_to_thor_model(model=model, network=net, loss_fn=loss, optimizer=opt,
                                                      loss_scale_manager=loss_scale, metrics={"acc"},
                                                      amp_level=amp_level, keep_batchnorm_fp32=False)
    model.train(1, dataset, callbacks=[TimeMonitor(data_size=step_size), LossMonitor()], sink_size=step_size,
                dataset_sink_mode=True)
    return net, opt


class Bert(nn.Cell):
    """Ids to logits of two classes: an embedding, a LayerNorm, two Dense layers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 6), nn.LayerNorm((6,))
        self.dense, self.head = nn.Dense(6, 6, activation="tanh"), nn.Dense(6, 2)

    def construct(self, ids):
        return self.head(self.dense(self.norm(self.embedding(ids).mean(axis=1))))


class BertWithLoss(nn.Cell):
    def __init__(self, bert):
        super().__init__()
        self.bert, self.loss = bert, nn.CrossEntropyLoss()

    def construct(self, ids, labels):
        return self.loss(self.bert(ids), labels)


class BertTrainOneStepCell(nn.TrainOneStepCell):
    """Hands scaled gradients to the optimizer, which divides them."""

    def construct(self, ids, labels):
        loss = self.network(ids, labels)
        sens = ops.cast(ops.tuple_to_array((self.sens,)), ms.float32).reshape(loss.shape)
        gradients = self.grad_reducer(self.grad(self.network, self.weights)(ids, labels, sens))
        return ops.depend(loss, self.optimizer(gradients))


class MatchBucket(nn.Cell):
    """Trains on as much of each sequence as its bucket has."""

    def __init__(self, network, seq_length, bucket_list):
        super().__init__()
        self.network, self.seq_length, self.bucket_list = network, seq_length, bucket_list

    def construct(self, ids, labels):
        return self.network(ids[:, :self.bucket_list[0]], labels)


def text_data():
    rng = np.random.default_rng(1)
    return (rng.integers(0, 11, (BATCH * STEPS, 8)).astype(np.int32),
            rng.integers(0, 2, BATCH * STEPS).astype(np.int32))


def decays(parameter):
    return "layernorm" not in parameter.name.lower() and "bias" not in parameter.name.lower()


def text_program(bucket_list):
    from thor import thor  # the import

    bert, (ids, labels) = filled(Bert()), text_data()
    data = ds.NumpySlicesDataset({"ids": ids, "labels": labels}, shuffle=False).batch(BATCH, drop_remainder=True)
    optimizer = thor(bert, Tensor(RATE), Tensor(DAMPING), 0.9, 1e-4, 1024.0, BATCH, decay_filter=decays,
                     split_indices=[28, 55, 77], enable_clip_grad=True, frequency=FREQUENCY)
    net_with_grads = BertTrainOneStepCell(BertWithLoss(bert), optimizer, sens=1024.0)
    net_with_grads = MatchBucket(net_with_grads, 8, bucket_list)
    model = Model(net_with_grads)
    model = ConvertModelUtils().convert_to_thor_model(model, network=net_with_grads, optimizer=optimizer)
    model.train(STEPS, data, callbacks=[LossMonitor()], dataset_sink_mode=True, sink_size=1)
    return bert, optimizer


def trained(network, with_loss, data, **options):
    """Weights after the same steps, one by one and operator by operator, with no Model, train cell or loss scale."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    optimizer = THOR(network, RATE, DAMPING, 0.9, batch_size=BATCH, frequency=FREQUENCY, **options)
    step = thor.train.make_train_step(with_loss, optimizer)
    for i in range(STEPS):
        step(*(Tensor(array[i * BATCH:(i + 1) * BATCH]) for array in data))
    return weights(network)


@pytest.mark.parametrize("mode, amp_level, error", [
    pytest.param(ms.PYNATIVE_MODE, "O0", 1e-4, id="exact"),
    pytest.param(ms.GRAPH_MODE, "O2", 0.05, id="as published", marks=pytest.mark.slow)])
def test_the_program_for_images(mode, amp_level, error):
    ms.set_context(mode=mode)
    network, optimizer = image_program(amp_level)
    assert optimizer.last_refresh == 4 and int(optimizer.global_step.asnumpy()[0]) == STEPS
    reference = images()
    start, loss = weights(reference), nn.WithLossCell(reference, nn.CrossEntropyLoss())
    assert_same(network, start, trained(reference, loss, image_data(), weight_decay=5e-4), error)


@pytest.mark.slow
def test_the_program_for_text():
    network, optimizer = text_program(bucket_list=(5,))
    assert optimizer.last_refresh == 4 and int(optimizer.global_step.asnumpy()[0]) == STEPS
    reference, (ids, labels) = filled(Bert()), text_data()
    start, data = weights(reference), (ids[:, :5], labels)
    expected = trained(reference, BertWithLoss(reference), data, weight_decay=1e-4, decay_filter=decays,
                       enable_clip_grad=True)
    assert_same(network, start, expected, 1e-4)
