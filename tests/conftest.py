"""Settings of every test: a working directory outside the tree; the execution mode stays as it was found."""
from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("GLOG_v", "3")  # MindSpore reads it at import

import pytest  # noqa: E402

HERE = Path(__file__).parent
# Files that take minutes: begun first, they do not keep one of two processes busy when the other has nothing left.
LONG = ("thor/curvature/test_policy_training.py", "thor/test_distribution_ranks.py", "models/bert/test_training.py",
        "devices/test_compiles.py", "models/launch/test_ranks_run.py", "scripts/test_digits_run.py",
        "models/test_resume.py", "models/test_sinks.py")


def pytest_collection_modifyitems(items):
    """The files of LONG before all others."""
    ranks = {HERE / name: rank for rank, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(LONG)))


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
