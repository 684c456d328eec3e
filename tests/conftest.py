"""Settings of every test: a working directory outside the tree; the execution mode stays as it was found."""
from __future__ import annotations

import os

os.environ.setdefault("GLOG_v", "3")  # MindSpore reads it at import

import pytest  # noqa: E402


# Files that take minutes: begun first, they do not keep one of two processes busy when the other has nothing left.
LONG = ("test_policy_training.py", "test_parallel_ranks.py", "test_bert_training.py", "test_compiles_for_ascend.py",
        "test_compiles_for_gpu.py", "test_ranks_run.py", "test_digits_run.py", "test_resume.py", "test_sinks.py")


def pytest_collection_modifyitems(items):
    """The files of LONG before all others."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


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
