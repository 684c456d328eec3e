"""What several tests share: references, cases, small data, and the programs that tests start."""
from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
DIGITS = CONFIGS / "resnet" / "resnet18_digits.yaml"
HELPERS = ROOT / "tests" / "helpers"


def environment(**variables: str) -> dict[str, str]:
    """Variables of a program that imports this repository's packages wherever it stands, tests.helpers among them."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}
