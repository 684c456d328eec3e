"""Which oneDNN instruction set is chosen when, and what an unusable device says."""
from __future__ import annotations

import os

import mindspore as ms
import pytest
from mindspore import nn

from models import device
from models.config.sections import DeviceConfig
from models.device import VARIABLE, has_avx512, has_slow_convolution, limit_isa, prepare
from models.lenet import LeNet5

DENSE = nn.SequentialCell(nn.Dense(2, 2))


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv(VARIABLE, "restored afterwards")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(device, "has_avx512", lambda: True)


@pytest.mark.parametrize("network, slow", [
    (LeNet5(), True), (DENSE, False), (nn.Conv2d(2, 2, 1), False), (nn.Conv2d(2, 2, 1, stride=2), True),
    (nn.SequentialCell(nn.SequentialCell(nn.Conv2d(2, 2, 3))), True), (nn.Conv1d(2, 2, 1), False),
    (nn.Conv1d(2, 2, 3), True), (nn.Conv2dTranspose(2, 2, 2), True)])
def test_slow_convolutions_are_found(network, slow):
    assert has_slow_convolution(network) is slow


def test_auto_limits_networks_that_convolve():
    assert limit_isa(DeviceConfig(), LeNet5()).startswith("ONEDNN_MAX_CPU_ISA=AVX2: this network convolves")
    assert os.environ[VARIABLE] == "AVX2"


@pytest.mark.parametrize("config, network", [
    (DeviceConfig(), DENSE), (DeviceConfig(convolution_isa="off"), LeNet5()),
    (DeviceConfig(target="GPU"), LeNet5())])
def test_others_are_left_alone(config, network):
    assert limit_isa(config, network) == ""
    assert VARIABLE not in os.environ


def test_processors_without_avx512_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "has_avx512", lambda: False)
    assert limit_isa(DeviceConfig(), LeNet5()) == "" and VARIABLE not in os.environ


def test_the_environment_wins_over_auto_and_the_config_over_both(monkeypatch):
    monkeypatch.setenv(VARIABLE, "SSE41")
    assert limit_isa(DeviceConfig(), LeNet5()) == "ONEDNN_MAX_CPU_ISA=SSE41 kept from the environment"
    assert os.environ[VARIABLE] == "SSE41"
    assert "as device.convolution_isa says" in limit_isa(DeviceConfig(convolution_isa="AVX2_VNNI"), DENSE)
    assert os.environ[VARIABLE] == "AVX2_VNNI"


@pytest.mark.parametrize("content, found", [
    ("flags : fpu avx2 avx512f avx512dq\n", True), ("flags : avx2\n", False)])
def test_avx512_is_read_from_the_flags(tmp_path, content, found):
    (tmp_path / "cpuinfo").write_text(content)
    assert has_avx512(str(tmp_path / "cpuinfo")) is found
    assert has_avx512(str(tmp_path / "missing")) is False


@pytest.mark.parametrize("mode, number", [("pynative", ms.PYNATIVE_MODE), ("graph", ms.GRAPH_MODE)])
def test_prepare_sets_mode_and_target(mode, number):
    prepare(DeviceConfig(mode=mode))
    assert ms.get_context("mode") == number and ms.get_context("device_target") == "CPU"


def test_an_unusable_target_is_one_line():
    with pytest.raises(ValueError) as caught:
        prepare(DeviceConfig(target="Ascend"))
    text = str(caught.value)
    assert text.startswith("device.target=Ascend; this MindSpore cannot use it (") and "\n" not in text
    assert "set device.target to CPU" in text
