"""ResNets, LeNet and the ConvNet: exact parameter counts, shapes, strides, initial values; the registry's answers."""
from __future__ import annotations

from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models.convnet import ConvNet
from models.lenet import LeNet5
from models.registry import create_network
from models.resnet import resnet


def count(net: nn.Cell) -> int:
    return sum(int(np.prod(p.shape)) for p in net.trainable_params())


@pytest.mark.parametrize("depth, parameters", [
    (18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)])
def test_imagenet_resnet_has_the_published_number_of_parameters(depth, parameters):
    assert count(resnet(depth)) == parameters


def test_small_narrow_resnet_has_the_counted_number_of_parameters():
    def block(cin, width):
        projection = cin * width + 2 * width if cin != width else 0
        return 9 * cin * width + 9 * width * width + 4 * width + projection

    widths = ((8, 8), (8, 16), (16, 32), (32, 64))
    stages = sum(block(cin, width) + block(width, width) for cin, width in widths)
    net = resnet(18, num_classes=10, in_channels=1, stem="small", base_width=8)
    assert count(net) == 9 * 8 + 2 * 8 + stages + 64 * 10 + 10


def test_bottleneck_strides_in_its_3x3_convolution():
    first = resnet(50, base_width=8).stages[1][0]
    assert (first.conv1.stride, first.conv2.stride, first.conv3.stride) == ((1, 1), (2, 2), (1, 1))


@pytest.mark.parametrize("stem, size, last", [("imagenet", 64, 2), ("small", 16, 2)])
def test_stems_differ_in_total_stride(pynative, stem, size, last):
    net = resnet(18, num_classes=7, in_channels=2, stem=stem, base_width=4).set_train(False)
    x = ms.Tensor(np.ones((3, 2, size, size), np.float32))
    features = net.stages(net.pool(net.relu(net.bn1(net.conv1(x)))))
    assert features.shape == (3, 32, last, last)
    assert net(x).shape == (3, 7)


def test_zero_gamma_makes_each_residual_branch_start_at_zero():
    assert (resnet(50, base_width=4).stages[0][0].bn3.gamma.asnumpy() == 0).all()
    assert (resnet(18, base_width=4).stages[0][0].bn2.gamma.asnumpy() == 0).all()
    assert (resnet(18, base_width=4, zero_gamma=False).stages[0][0].bn2.gamma.asnumpy() == 1).all()


def test_convolutions_start_with_he_deviation():
    weight = resnet(18).stages[3][1].conv2.weight.asnumpy()
    assert weight.std() == pytest.approx(np.sqrt(2 / (512 * 9)), rel=0.01)
    assert abs(weight.mean()) < 1e-3


@pytest.mark.parametrize("options, message", [
    (dict(stem="tiny"), "stem='tiny'; must be one of imagenet, small"),
    (dict(base_width=0), "base_width=0; must be an int >= 1"),
    (dict(num_classes=True), "num_classes=True; must be an int >= 1")])
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        resnet(18, **options)


def test_unknown_depth_lists_the_known_ones():
    with pytest.raises(ValueError, match="depth=20; must be one of 18, 34, 50, 101, 152"):
        resnet(20)


@pytest.mark.parametrize("size", [28, 32])
def test_lenet_has_61706_parameters_at_both_sizes(pynative, size):
    net = LeNet5(image_size=size)
    assert count(net) == 61_706
    assert net(ms.Tensor(np.zeros((2, 1, size, size), np.float32))).shape == (2, 10)


def test_lenet_refuses_other_sizes():
    with pytest.raises(ValueError, match="image_size=8; must be 28 or 32"):
        LeNet5(image_size=8)


def test_convnet_has_the_counted_number_of_parameters_and_halves_three_times(pynative):
    net = ConvNet(num_classes=7, in_channels=2, image_size=28, widths=(4, 6, 8))
    assert count(net) == 9 * (2 * 4 + 4 * 6 + 6 * 8) + 2 * (4 + 6 + 8) + 8 * 4 * 4 * 7 + 7
    assert net(ms.Tensor(np.zeros((2, 2, 28, 28), np.float32))).shape == (2, 7)
    assert count(ConvNet()) == 9 * (32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 16 * 10 + 10


def model_config(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, num_classes=10, in_channels=1, stem="small", base_width=4,
                           zero_gamma=True, geometry="standard")


def test_registry_builds_what_the_config_says():
    data = SimpleNamespace(image_size=28)
    assert isinstance(create_network(model_config("lenet5"), data), LeNet5)
    assert isinstance(create_network(model_config("convnet3"), data), ConvNet)
    net = create_network(model_config("resnet34"), data)
    assert [len(stage) for stage in net.stages] == [3, 4, 6, 3]
    assert net.fc.weight.shape == (10, 32)


def test_registry_names_the_nearest_network():
    with pytest.raises(ValueError, match="model.name='resnet05' is unknown; did you mean 'resnet50'"):
        create_network(model_config("resnet05"), SimpleNamespace(image_size=28))
