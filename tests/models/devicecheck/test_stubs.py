"""Stubs: what the plugins ask for, built once, and one line where that cannot be."""
from __future__ import annotations

import shutil

import pytest

from models.devicecheck import plugin, stub_build
from models.devicecheck.elf import Library
from models.devicecheck.environment import device_environment
from models.devicecheck.plugin import Gaps, MissingPlugin, find_gaps
from models.devicecheck.stub_build import (
    FOLDER_VARIABLE,
    BuildError,
    aliases,
    answer_of,
    cache_folder,
    stub_folder,
    version_script,
)
from tests.helpers.compilation import stubs

pytestmark = pytest.mark.usefixtures("stub_cache")


@pytest.fixture(scope="module", params=plugin.TARGETS)
def target(request, stub_cache):
    stubs(request.param)  # or skip
    return request.param


def test_stubs_have_every_symbol_and_library_the_plugin_asks_for(target):
    gaps, folder = find_gaps(target), stub_folder(target)
    exported = set(Library(folder / "lib64" / stub_build.REAL[target]).exports())
    assert set(gaps.symbols) - exported == set()
    assert {name for name in gaps.libraries if not (folder / "lib64" / name).exists()} == set()


def test_what_the_gpu_plugin_asks_for():
    stubs("GPU")
    gaps = find_gaps("GPU")
    assert {"libcudart.so.11.0", "libcudnn.so.8", "libcuda.so.1"} <= set(gaps.libraries)
    assert gaps.symbols["cudnnCreate"] == "libcudnn.so.8" and "cublasCreate_v2" in gaps.symbols
    assert not {"dlopen", "malloc", "PyObject_Call"} & set(gaps.symbols)


def test_what_the_ascend_plugin_asks_for():
    stubs("Ascend")
    gaps = find_gaps("Ascend")
    assert {"libascendcl.so", "libge_runner.so"} <= set(gaps.libraries)
    assert {"aclnnAdd", "aclnnAddGetWorkspaceSize", "aclrtMalloc", "HcclAllReduce"} <= set(gaps.symbols)


def test_built_once(target, monkeypatch):
    monkeypatch.setattr(stub_build, "build", lambda *arguments: pytest.fail("built again"))
    assert stub_folder(target).name == "latest"


def test_a_faster_process_wins(target, monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    theirs = []

    def build(target, folder, compiler):
        folder.mkdir()
        theirs.append(stub_folder.__globals__["cache_folder"]() / f"{target.lower()}-{stub_build.fingerprint(target)}"
                      / "latest")
        (theirs[0] / "lib64").mkdir(parents=True)
        (folder / "own").touch()
    monkeypatch.setattr(stub_build, "build", build)
    assert stub_folder(target) == theirs[0] and not (theirs[0] / "own").exists()
    assert [path.name for path in theirs[0].parent.iterdir()] == ["latest"]


def test_cache_folder(monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert str(cache_folder()) == "/named"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert str(cache_folder()) == "/cache/mindspore-thor/stubs"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert str(cache_folder()) == "/home/x/.cache/mindspore-thor/stubs"


def test_no_compiler_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BuildError) as error:
        stub_folder("GPU")
    assert str(error.value) == ("CC=gcc; must be a C compiler with its linker, and is not found; install gcc and "
                                "binutils (Debian: apt-get install gcc libc6-dev) or set CC")


def test_no_plugin_is_one_line(monkeypatch):
    monkeypatch.setattr(plugin, "PLUGINS", {"GPU": ("plugin/libmindspore_gpu.so.99",)})
    with pytest.raises(MissingPlugin, match=r"target=GPU; must be a plugin MindSpore \S+ has here, and "
                                            r"libmindspore_gpu.so.99 is not in it; use a wheel with it"):
        stub_folder("GPU")


@pytest.mark.parametrize("name, answer", [
    ("cudnnCreateTensorDescriptor", "stub_creates"),
    ("cudaStreamCreateWithFlags", "stub_nothing"),
    ("aclnnAdd", "stub_nothing"),
    ("_ZN2ge8OperatorC2Ev", "stub_constructs_larger"),
    ("_ZN2ge10TensorDescC1Ev", "stub_constructs"),
    ("_ZN2ge15OperatorFactory14CreateOperatorEPKcS2_", "stub_constructs_larger"),
    ("_ZN2ge5Graph9SetInputsERKSt6vectorINS_8OperatorESaIS2_EE", "stub_nothing"),
])
def test_answers(name, answer):
    assert answer_of(name) == answer


def test_text_of_stubs():
    gaps = Gaps((), {"cudaMalloc": "libcudart.so.11.0", "cudnnCreate": "libcudnn.so.8", "cuInit": ""})
    assert aliases(gaps, "int cudaMalloc(void **memory, size_t size) { return 0; }\n") == (
        'long cudnnCreate() __attribute__((alias("stub_creates")));\n'
        'long cuInit() __attribute__((alias("stub_nothing")));\n')
    assert version_script(gaps).splitlines() == ["libcudart.so.11.0 { global: cudaMalloc; };",
                                                 "libcudnn.so.8 { global: cudnnCreate; };"]
    assert version_script(Gaps((), {"aclInit": ""})) == "{ global: *; };\n"


def test_environment_forgets_other_devices(monkeypatch, tmp_path):
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")
    monkeypatch.setenv("RANK_TABLE_FILE", "x")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/old")
    gpu, ascend = device_environment("GPU", tmp_path), device_environment("Ascend", tmp_path, 3, 8)
    for made in (gpu, ascend):
        assert "MS_ROLE" not in made and "RANK_TABLE_FILE" not in made
        assert made["MS_DISABLE_KERNEL_BACKOFF"] == "1" and made["LD_LIBRARY_PATH"] == f"{tmp_path}/lib64:/old"
    assert gpu["CUDA_HOME"] == str(tmp_path) and "MS_SIMULATION_LEVEL" not in gpu
    assert [ascend[name] for name in ("RANK_ID", "DEVICE_ID", "RANK_SIZE", "MS_WORKER_NUM", "MS_SIMULATION_LEVEL")] == [
        "3", "3", "8", "8", "1"]
