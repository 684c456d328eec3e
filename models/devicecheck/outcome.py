"""What became of compiling a graph, in a process of its own. Importing this module does not import MindSpore."""
from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

KERNEL_FAILURE = "HandleKernelSelectFailure"  # MindSpore's function, named at the end of its message
# GPU: "Unsupported op [LARSUpdate] on GPU", "Select GPU operator[BatchMatMul] fail!"; Ascend: "Default/Cholesky-op0"
OPERATOR = re.compile(r"\bop(?:erator)? ?\[(\w+)\]|node is \S*?(\w+)-op\d+")

PR_SET_PDEATHSIG = 1  # of Linux


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A graph that was compiled, or was not.

    Attributes:
        graph: its name.
        seconds: of wall-clock time, from building the network.
        peak_bytes: most memory the process had.
        error: the whole message, "" where the graph compiled.
        device_id: the device the process used, -1 where it did not come so far.
    """

    graph: str
    seconds: float
    peak_bytes: int
    error: str = ""
    device_id: int = -1

    @property
    def ok(self) -> bool:
        return not self.error

    @property
    def line(self) -> str:
        """The first line of the error that says something."""
        lines = [line.strip() for line in self.error.splitlines()]
        return next((line for line in lines if line.strip("- ") and not line.startswith("- ")), self.error)

    @property
    def operator(self) -> str:
        """The operator without a kernel, if that was it."""
        found = OPERATOR.search(self.error) if KERNEL_FAILURE in self.error else None
        return found[1] or found[2] if found else ""


def in_child(graph: str, compile_graph: Callable[[], int]) -> Outcome:
    """Fork, compile in the child, and tell how it went; the device must not have been used before.

    Args:
        graph: its name.
        compile_graph: builds and compiles; returns the device it used.
    """
    reader, writer = os.pipe()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        end_with_parent()
        os.close(reader)
        tell(writer, compile_graph)
        os._exit(0)  # stubs cannot be unloaded in an orderly way
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if told:
        result = json.loads(told)
    elif os.WIFSIGNALED(status):
        result = {"error": f"the process ended with {signal.Signals(os.WTERMSIG(status)).name}"}
    else:
        result = {"error": f"the process ended with status {os.WEXITSTATUS(status)}"}
    return Outcome(graph, time.perf_counter() - started, 1024 * usage.ru_maxrss, **result)


def end_with_parent() -> None:
    """End this process when the one that started it ends, however it does: compiling takes minutes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def tell(writer: int, compile_graph: Callable[[], int]) -> None:
    """Compile, and write the outcome as JSON."""
    try:
        result: dict[str, Any] = {"device_id": compile_graph()}
    except BaseException as error:  # whatever a compiler raises is the outcome
        result = {"error": str(error).strip() or type(error).__name__}
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(result).encode())


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes, a line each."""
    rows = [f"{'graph':<14}{'seconds':>8}{'peak MiB':>10}  result"]
    rows += [f"{outcome.graph:<14}{outcome.seconds:>8.1f}{outcome.peak_bytes / 2 ** 20:>10.0f}  "
             f"{'ok' if outcome.ok else outcome.line}" for outcome in outcomes]
    return "\n".join(rows)


def operators_without_kernel(outcomes: Sequence[Outcome], target: str) -> str:
    """A line for each operator the target has no kernel for, with the graphs that need it."""
    graphs: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.operator:
            graphs.setdefault(outcome.operator, []).append(outcome.graph)
    return "\n".join(f"no kernel on {target}: {name} ({', '.join(needing)})" for name, needing in graphs.items())
