"""Stubs of these tests are built once a session, in a folder of its own."""
from __future__ import annotations

import pytest

from models.devicecheck.stub_build import FOLDER_VARIABLE


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Where stubs are built and kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(tmp_path_factory.mktemp("stubs")))
        yield
