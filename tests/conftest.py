"""Settings of every test: a working directory outside the tree; the execution mode stays as it was found."""
from __future__ import annotations

import os

os.environ.setdefault("GLOG_v", "3")  # MindSpore reads it at import
INSTRUCTION_SET = "ONEDNN_MAX_CPU_ISA"
FOUND = os.environ.get(INSTRUCTION_SET)

import pytest  # noqa: E402


def pytest_collection_modifyitems(items):
    """Files with slow tests first, so that no process works on one when the others have nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """MindSpore writes rank_0/ and *.ir files where it stands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def execution_mode():
    """Graph mode before a test, and the mode found before it afterwards."""
    import mindspore as ms

    found = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=found)


@pytest.fixture(autouse=True)
def instruction_set():
    """What a run in this process chose for oneDNN is not handed to the programs that later tests start."""
    _put_back_instruction_set()
    yield
    _put_back_instruction_set()


def _put_back_instruction_set():
    os.environ.pop(INSTRUCTION_SET, None)
    if FOUND is not None:
        os.environ[INSTRUCTION_SET] = FOUND


@pytest.fixture
def pynative(execution_mode):
    """Operator by operator, where the mode does not matter: nothing is compiled."""
    import mindspore as ms

    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture(scope="session")
def stub_cache(tmp_path_factory):
    """Stubs of device drivers are built once a session, in a folder that the processes of the session share."""
    from models.devicecheck.stub_build import FOLDER_VARIABLE

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder / "stubs"))
        yield
