"""Runs the cases of a target in one program, and tells each test what became of its graph."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.devicecheck.environment import device_environment
from models.devicecheck.outcome import Outcome
from models.devicecheck.plugin import MissingPlugin
from models.devicecheck.stub_build import BuildError, stub_folder
from tests.helpers import ROOT


class Compilation:
    """Graphs that are being compiled for a target, one after the other; asking for one waits for it.

    Args:
        target: GPU or Ascend.
        folder: where the program may write.
        names: of the cases.
    """

    def __init__(self, target: str, folder: Path, names: list[str]):
        environment = device_environment(target, stubs(target))
        environment["PYTHONPATH"] = f"{environment.get('PYTHONPATH', '')}:{ROOT}"
        self.errors = folder / "errors.txt"
        with open(self.errors, "w", encoding="utf-8") as errors:
            self.program = subprocess.Popen([sys.executable, "-m", "tests.helpers.device_program", target, *names],
                                            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors,
                                            text=True)
        self.outcomes: dict[tuple[str, str], Outcome] = {}

    def outcome(self, case: str, graph: str) -> Outcome:
        """What became of a graph."""
        while (case, graph) not in self.outcomes:
            line = self.program.stdout.readline()
            assert line, f"the program ended before {case}:\n{self.errors.read_text()[-2000:]}"
            if line.startswith("{"):
                told = json.loads(line)
                name = told.pop("case")
                self.outcomes[name, told["graph"]] = Outcome(**told)
        return self.outcomes[case, graph]

    def end(self) -> None:
        """Stop the program, also in the middle."""
        self.program.kill()
        self.program.communicate()


def chosen(request: pytest.FixtureRequest, target: str) -> list[str]:
    """The names of the cases of a target whose tests of this module are to run."""
    tests = [item for item in request.session.items
             if item.module is request.module and item.callspec.params["target"] == target]
    return list(dict.fromkeys(test.callspec.params["case"].name for test in tests))


def stubs(target: str) -> Path:
    """The folder of the stubs; skips the test where they cannot be made."""
    try:
        return stub_folder(target)
    except (BuildError, MissingPlugin) as error:
        pytest.skip(str(error))
