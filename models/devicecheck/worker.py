"""``python -m models.devicecheck.worker``: compile in the environment of a device, a forked process a graph.

A job, one line of JSON, comes on stdin: config (path), overrides, graphs, sequence and masked. An outcome, one line
of JSON, leaves on stdout for each graph as soon as it is known.
"""
from __future__ import annotations

import dataclasses
import json
import os
import sys
from functools import partial

from models.config import load_config
from models.devicecheck.outcome import end_with_parent, in_child


def main() -> None:
    """Compile the graphs of the job on stdin."""
    end_with_parent()
    job = json.loads(sys.stdin.readline())
    config = load_config(job["config"], job["overrides"])
    from models.devicecheck.job import compile_config  # imports MindSpore, and with it the plugin, before the forks

    for graph in job["graphs"]:
        outcome = in_child(graph, partial(compile_config, config, graph, job["sequence"], job["masked"]))
        print(json.dumps(dataclasses.asdict(outcome)), flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
