"""Compile cases for a device, in the environment of its stubs: tests.helpers.device_program GPU|Ascend [CASE ...]

Prints a line of JSON for each graph: its case, and what became of it.
"""
from __future__ import annotations

import dataclasses
import json
import os
import sys

from models.devicecheck.outcome import end_with_parent, in_child
from tests.helpers import plain_network  # noqa: F401, it registers itself
from tests.helpers.device_cases import cases

end_with_parent()
target, names = sys.argv[1], sys.argv[2:]
for case in cases(target):
    for graph in case.graphs if not names or case.name in names else ():
        outcome = in_child(graph, lambda: case.compile(graph))
        print(json.dumps({"case": case.name, **dataclasses.asdict(outcome)}), flush=True)
os._exit(0)
