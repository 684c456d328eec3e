"""Which device and which oneDNN instruction set are chosen when, and what an unusable device says."""
from __future__ import annotations

import os
from types import SimpleNamespace

import mindspore as ms
import pytest
from mindspore import nn

from models import device, device_needs, session
from models.config import Config, ConfigError, ParallelConfig
from models.config.run import DeviceConfig
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


@pytest.fixture
def calls(monkeypatch):
    """What MindSpore is told, in order: devices, and that it meets other processes."""
    told = []
    monkeypatch.setattr(device.ms, "set_device", lambda target, device_id=None: told.append((target, device_id)))
    monkeypatch.setattr("mindspore.communication.init", lambda: told.append("init"))
    monkeypatch.setattr("mindspore.communication.get_rank", lambda: 3)
    monkeypatch.setattr("mindspore.communication.get_group_size", lambda: 8)
    monkeypatch.setattr(device.ms, "set_auto_parallel_context", lambda **options: told.append(options["device_num"]))
    monkeypatch.setattr(device, "remarks", lambda target: [])
    for name in ("MS_WORKER_NUM", "DEVICE_ID"):
        monkeypatch.delenv(name, raising=False)
    return told


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
@pytest.mark.parametrize("device_id", [0, 5])
def test_one_process_takes_the_device_of_its_configuration(calls, target, device_id, monkeypatch):
    monkeypatch.setenv("DEVICE_ID", "2")  # left over in the environment
    prepare(DeviceConfig(target=target, device_id=device_id))
    assert calls == [(target, device_id)]


@pytest.mark.parametrize("target", ["GPU", "Ascend"])
@pytest.mark.parametrize("place, device_id", [("0", 0), ("3", 3), ("", None)])
def test_a_rank_takes_the_device_of_its_place_and_then_meets_the_others(calls, target, place, device_id, monkeypatch):
    monkeypatch.setenv("MS_WORKER_NUM", "8")
    monkeypatch.setenv("DEVICE_ID", place)
    ranks = session.start(Config(device=DeviceConfig(target=target), parallel=ParallelConfig(device_num=8)))
    assert calls == [(target, device_id), "init", 8]
    assert (ranks.rank, ranks.count) == (3, 8)


def test_a_device_for_one_of_several_processes_is_refused_before_any_is_taken(calls, monkeypatch):
    monkeypatch.setenv("MS_WORKER_NUM", "2")
    config = Config(device=DeviceConfig(target="Ascend", device_id=1), parallel=ParallelConfig(device_num=2))
    with pytest.raises(ConfigError) as caught:
        session.start(config)
    assert str(caught.value) == ("device.device_id=1; must be 0 where 2 processes train, each on a device of its own; "
                                 "choose the devices with ASCEND_RT_VISIBLE_DEVICES")
    assert calls == []


def test_a_wrong_number_of_processes_is_refused_before_a_device_is_taken(calls):
    with pytest.raises(ConfigError, match="parallel.device_num=8; must be 1 where one process trains"):
        session.start(Config(device=DeviceConfig(target="GPU"), parallel=ParallelConfig(device_num=8)))
    assert calls == []


@pytest.mark.parametrize("workers, expected", [
    (None, [("GPU", 4)]), ("8", [("GPU", 3), "init", 8])])
def test_evaluation_takes_one_device_or_that_of_its_place(calls, monkeypatch, workers, expected):
    """One process evaluates on the device it is told, whatever number the configuration trains on."""
    if workers:
        monkeypatch.setenv("MS_WORKER_NUM", workers)
        monkeypatch.setenv("DEVICE_ID", "3")
    task = SimpleNamespace(evaluation=lambda network: {"metrics": {}}, dataset=lambda train, **shards: shards)
    monkeypatch.setattr(session, "create_task", lambda config: task)
    monkeypatch.setattr(session, "seeded_network", lambda config: (DENSE, ""))
    monkeypatch.setattr(session, "Model", lambda network, **evaluation: None)
    seen = []
    monkeypatch.setattr(session, "evaluate",
                        lambda model, eval_set, metrics, ranks: seen.append((eval_set, ranks.count)))
    config = Config(device=DeviceConfig(target="GPU", device_id=0 if workers else 4),
                    parallel=ParallelConfig(device_num=8))
    session.create_evaluation(config)[1]()
    assert calls == expected
    assert seen == [({"num_shards": 8, "shard_id": 3}, 8) if workers else ({}, 1)]


def plugin_message(target, library):
    """What MindSpore 2.10 says of a plugin it cannot load."""
    plugin = {"GPU": "libmindspore_gpu.so.11.6", "Ascend": "libmindspore_ascend.so.2"}
    failed = [f"Load dynamic library: {name} failed. {library if of == target else 'libother.so'}: cannot open shared "
              "object file: No such file or directory" for of, name in plugin.items()]
    return "\n".join([f"Unsupported device target {target}. This process only supports one of the ['CPU'].", *failed])


@pytest.fixture
def cuda(tmp_path, monkeypatch):
    """Makes a CUDA_HOME of a release."""
    def make(release):
        (tmp_path / "bin").mkdir()
        nvcc = tmp_path / "bin" / "nvcc"
        nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
        nvcc.chmod(0o755)
        monkeypatch.setenv("CUDA_HOME", str(tmp_path))
        return tmp_path
    return make


def unusable(target, library, monkeypatch):
    def refuse(target, device_id=None):
        raise RuntimeError(plugin_message(target, library))

    monkeypatch.setattr(device.ms, "set_device", refuse)
    with pytest.raises(ValueError) as caught:
        prepare(DeviceConfig(target=target))
    return str(caught.value)


def test_a_gpu_without_cuda_names_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_HOME", raising=False)
    assert unusable("GPU", "libcublas.so.11", monkeypatch) == (
        "device.target=GPU; this MindSpore cannot use it (CUDA_HOME is not set); set device.target to CPU or install "
        "CUDA 11.6 with cuDNN 8.5 or CUDA 11.1 with cuDNN 8.0, export CUDA_HOME, and add the folders of both libraries "
        "to LD_LIBRARY_PATH")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert f"(CUDA_HOME={tmp_path} has no bin/nvcc)" in unusable("GPU", "libcublas.so.11", monkeypatch)


@pytest.mark.parametrize("release, reason", [
    ("11.6", "libcudnn.so.8 is not on LD_LIBRARY_PATH"), ("11.1", "libcudnn.so.8 is not on LD_LIBRARY_PATH"),
    ("12.2", "CUDA_HOME={home} is of release 12.2")])
def test_a_gpu_with_cuda_names_what_else_is_missing(cuda, release, reason, monkeypatch):
    home = cuda(release)
    assert f"({reason.format(home=home)})" in unusable("GPU", "libcudnn.so.8", monkeypatch)


def test_ascend_without_cann_or_one_of_its_libraries(monkeypatch):
    for name in ("ASCEND_HOME_PATH", "ASCEND_OPP_PATH"):
        monkeypatch.delenv(name, raising=False)
    assert unusable("Ascend", "libge_runner.so", monkeypatch).endswith(
        "(CANN is not set up); set device.target to CPU or install CANN 8.2 to 9.1 and its driver, and source CANN's "
        "set_env.sh")
    monkeypatch.setenv("ASCEND_HOME_PATH", "/somewhere")
    assert "(libge_runner.so is not on LD_LIBRARY_PATH)" in unusable("Ascend", "libge_runner.so", monkeypatch)


def test_packages_of_cann_that_cannot_be_imported_are_told(monkeypatch):
    monkeypatch.delenv("MS_SIMULATION_LEVEL", raising=False)
    monkeypatch.setattr(device_needs, "importable", lambda name: name == "hccl")
    assert device_needs.remarks("Ascend") == [
        "CANN's te cannot be imported; operators it builds in Python will fail; source its set_env.sh, or install its "
        "wheels into this environment"]
    assert device_needs.remarks("GPU") == []
    monkeypatch.setattr(device_needs, "importable", lambda name: True)
    assert device_needs.remarks("Ascend") == []
