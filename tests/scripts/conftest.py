"""Where the scripts set up their environment."""
from __future__ import annotations

import pytest

from tests.helpers.scripts import stand_in


@pytest.fixture
def sandbox(tmp_path):
    """Variables that send set-up into a folder of its own, and that folder."""
    return {"PYTHON": stand_in(tmp_path), "VENV": tmp_path / "venv"}
