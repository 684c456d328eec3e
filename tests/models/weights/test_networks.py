"""Weights as other programs keep them give our networks the outputs of those programs: float64 NumPy computes them."""
from __future__ import annotations

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from safetensors.numpy import load_file, save_file

from models import evaluate
from models.config import load_config
from models.convert_checkpoint import main
from models.registry import create_network
from models.resnet import resnet
from tests.helpers import CONFIGS
from tests.helpers.bert_reference import SMALL, batch, tensors
from tests.helpers.foreign_networks import (
    BLOCKS,
    HUGGING_FACE,
    MINDSPORE,
    MINDSPORE_BASIC,
    MINDSPORE_BERT,
    TORCHVISION,
    ForeignBert,
    ForeignResNet,
    bert_weights,
    resnet_weights,
)

pytestmark = pytest.mark.usefixtures("pynative")
RESNET, BERT = (str(CONFIGS / name) for name in ("resnet/resnet18_cifar10.yaml", "bert/bert_small.yaml"))
# The 33 pixels are odd after a stride, so that both paddings at both ends are met.
WORDS = ["--model.stem=imagenet", "--model.base_width=4", "--model.num_classes=10", "--device.mode=pynative"]
IMAGES = np.random.default_rng(1).normal(size=(2, 3, 50, 66)).astype(np.float32)
SIZES = [f"--model.bert.{name}={value}" for name, value in dataclasses.asdict(SMALL).items()
         if name in ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size", "max_positions", "dropout",
                     "attention_dropout", "relative_positions")]


def save_checkpoint(state, path):
    """As MindSpore's ModelCheckpoint, with an optimizer's state beside the weights."""
    extra = {f"moments.{name}": array for name, array in state.items()} | {"learning_rate": np.float32(0.1)}
    ms.save_checkpoint([{"name": name, "data": Tensor(array)} for name, array in {**extra, **state}.items()], str(path))


def read(path):
    return {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()}


def loaded(path, *words):
    """The network of a configuration with the checkpoint ``path`` as models.evaluate loads it."""
    config = load_config(words[0], words[1:])
    network = create_network(config.model, config.data).set_train(False)
    evaluate.load_weights(network, str(path), False)
    return network


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []


@pytest.mark.parametrize("depth", BLOCKS)
def test_torchvision_computes_what_our_resnets_compute(depth, tmp_path):
    state = resnet_weights(depth, 4, 10, 3, TORCHVISION)
    counts = {name.replace("mean", "num").replace("running_num", "num_batches_tracked"): np.int64(3)
              for name in state if name.endswith("running_mean")}
    save_file({**state, **{name: np.array(count) for name, count in counts.items()}}, tmp_path / "torch.safetensors")
    words = [*WORDS, f"--model.name=resnet{depth}"]
    base = ["--config", RESNET, *words]
    assert main([*base, "--from", "torchvision", "--to", "zoo", "torch.safetensors", "zoo.ckpt"]) == 0
    logits = loaded("zoo.ckpt", RESNET, *words)(Tensor(IMAGES)).asnumpy()
    expected = ForeignResNet(state, TORCHVISION).logits(IMAGES)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert main([*base, "--from", "zoo", "--to", "torchvision", "zoo.ckpt", "back.safetensors"]) == 0
    assert_equal(load_file("back.safetensors"), state)


@pytest.mark.parametrize("depth, style, geometry", [
    (18, MINDSPORE_BASIC, dict(epsilon=1e-4)), (34, MINDSPORE_BASIC, dict(epsilon=1e-4)),
    (50, MINDSPORE, dict(same=True, epsilon=1e-4, outer_epsilon=1e-4))])
def test_checkpoints_of_mindspores_resnet_load_by_name(depth, style, geometry, tmp_path):
    state = resnet_weights(depth, 4, 10, 3, style)
    save_checkpoint(state, "official.ckpt")
    words = [*WORDS, f"--model.name=resnet{depth}", "--model.geometry=official"]
    network = loaded("official.ckpt", RESNET, *words)
    assert {parameter.name for parameter in network.get_parameters()} == set(state)
    expected = ForeignResNet(state, style, **geometry).logits(IMAGES)
    np.testing.assert_allclose(network(Tensor(IMAGES)).asnumpy(), expected, rtol=0, atol=1e-5)
    standard = ForeignResNet(state, style).logits(IMAGES)
    assert np.abs(standard - expected).max() > 1e-4  # the geometry matters
    words = ["--config", RESNET, *WORDS, f"--model.name=resnet{depth}"]  # of the standard geometry: other names
    assert main([*words, "--from", "mindspore", "--to", "zoo", "official.ckpt", "zoo.ckpt"]) == 0
    assert main([*words, "--from", "zoo", "--to", "mindspore", "zoo.ckpt", "back.ckpt"]) == 0
    assert_equal(read("back.ckpt"), state)


def test_the_official_resnets_begin_and_decay_as_published():
    """Statistics of stem and shortcuts keep 0.1 of themselves in ResNet-18, as that program says."""
    network = resnet(18, "official", base_width=16)
    norms = network.bn1, network.stages[1][0].shortcut[1], network.stages[1][0].bn1
    assert [round(1 - norm.momentum, 6) for norm in norms] == [0.1, 0.1, 0.9]
    weight = network.fc.weight.asnumpy()
    bound = 1 / np.sqrt(weight.shape[1])
    assert 0.99 * bound < np.abs(weight).max() <= bound
    assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    deepest = resnet(152, "official", base_width=16)
    for weight in (deepest.stages[3][0].conv2.weight, deepest.fc.weight):
        assert weight.asnumpy().std() == pytest.approx(0.01, rel=0.02)
    block = resnet(50, "official", base_width=16).stages[0][1]
    assert block.conv2.weight.asnumpy().std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)
    assert (block.bn3.gamma.asnumpy() == 0).all() and block.bn3.eps == 1e-4


@pytest.mark.parametrize("form, names, suffix, epsilon", [
    ("huggingface", HUGGING_FACE, "safetensors", 1e-12), ("mindspore", MINDSPORE_BERT, "ckpt", 1e-7)])
def test_bert_computes_what_it_computes_there(form, names, suffix, epsilon, tmp_path):
    config = dataclasses.replace(SMALL, layer_norm_epsilon=epsilon)
    state, source = bert_weights(config, names), f"theirs.{suffix}"
    if suffix == "ckpt":
        save_checkpoint(state, source)
    else:
        save_file({**state, "bert.embeddings.position_ids": np.arange(12)[None]}, source)
    words = [*SIZES, f"--model.bert.layer_norm_epsilon={epsilon}", "--device.mode=pynative"]
    base = ["--config", BERT, *words]
    assert main([*base, "--from", form, "--to", "zoo", source, "zoo.ckpt"]) == 0
    b = batch()
    actual = loaded("zoo.ckpt", BERT, *words)(*tensors(b)[:4])
    for logits, expected in zip(actual, ForeignBert(state, names, config).logits(b)):
        np.testing.assert_allclose(logits.asnumpy(), expected, rtol=0, atol=1e-5)
    assert main([*base, "--from", "zoo", "--to", form, "zoo.ckpt", f"back.{suffix}"]) == 0
    assert_equal(read("back.ckpt") if suffix == "ckpt" else load_file("back.safetensors"), state)
