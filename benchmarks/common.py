"""What the benchmarks share: arguments, ratios with their spread, tables, the machine.

Importing this module does not import MindSpore.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from models.turns import measure_in_turn

MEBIBYTE = 2 ** 20


class BenchmarkError(Exception):
    """What keeps a benchmark from running; told in one line."""


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser that knows ``--json`` and ``--seed``."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{program}", description=description, allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--json", metavar="FILE", help="also write the numbers there")
    made.add_argument("--seed", type=at_least(0), default=1, help="of weights and data")
    return made


def add_timing(made: argparse.ArgumentParser, warmup: int, repeats: int) -> None:
    """Options of :func:`models.turns.measure_in_turn`."""
    made.add_argument("--warmup", type=at_least(1), default=warmup, help="calls a side that are discarded")
    made.add_argument("--repeats", type=at_least(1), default=repeats, help="calls a side that are timed")


def at_least(low: int) -> Callable[[str], int]:
    """An argparse type: an int that is ``low`` or more."""
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"{text!r}; must be an int >= {low}")
        return value
    return convert


def run(entry: Callable[[], None]) -> int:
    """Run ``entry`` and give the exit status; expected errors are one line on stderr."""
    try:
        entry()
    except (BenchmarkError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def run_measurement(measure: Callable[[], dict[str, Any]], report: Callable[[dict[str, Any]], str],
                    json_path: str | None) -> int:
    """Measure, print the report, write the numbers; the exit status, as of :func:`run`."""
    def entry() -> None:
        check_writable(json_path)
        numbers = measure()
        print(report(numbers))
        write_json(json_path, numbers)
    return run(entry)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> dict[str, float]:
    """Median of the ratios of calls of the same round, and their quartiles ``low`` and ``high``."""
    low, middle, high = np.quantile(np.asarray(numerator) / np.asarray(denominator), (0.25, 0.5, 0.75))
    return {"ratio": float(middle), "low": float(low), "high": float(high)}


def amortised(stale, refresh, frequency: int):
    """What a step costs on average when one in ``frequency`` refreshes."""
    return (refresh + (frequency - 1) * stale) / frequency


def spread(result: dict[str, float]) -> str:
    """``1.08 (1.06 to 1.09)``."""
    return f"{result['ratio']:.3f} ({result['low']:.3f} to {result['high']:.3f})"


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as left-aligned columns; the first row is the head."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def write_json(path: str | None, numbers: dict[str, Any]) -> None:
    """Write ``numbers`` if a path is given, whole or not at all."""
    if path is None:
        return
    target = Path(path)
    part = target.with_name(target.name + ".part")
    part.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(target)


def check_writable(path: str | None) -> None:
    """Refuse a ``--json`` file whose folder is not there, before anything is measured."""
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise BenchmarkError(f"--json={path}; its folder does not exist; create it or choose another file")


def machine() -> dict[str, Any]:
    """Cores, processor, instruction sets, versions, load and date."""
    info = _cpu_info()
    isa = [name for name in ("avx2", "avx512f", "amx_tile") if name in info.get("flags", "").split()]
    return {"date": datetime.date.today().isoformat(), "cores": len(os.sched_getaffinity(0)),
            "processor": info.get("model name", platform.machine()), "instruction_sets": isa,
            "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""), "load": os.getloadavg()[0],
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in ("mindspore", "numpy", "scipy")}}


def describe(facts: dict[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    limit = f", ONEDNN_MAX_CPU_ISA={facts['onednn_max_cpu_isa']}" if facts["onednn_max_cpu_isa"] else ""
    sets = " ".join(facts["instruction_sets"])
    return (f"{facts['date']}, {facts['cores']} cores {facts['processor']} ({sets})"
            f"{limit}, load {facts['load']:.2f}, Python {facts['python']}, {versions}")


def matrix_product_rate(size: int = 2048, repeats: int = 5) -> float:
    """Floating point operations a second of a float32 matrix product, the best of ``repeats``.

    SciPy's BLAS is measured: NumPy's may be older than the processor and then run at a fraction of the rate.
    """
    from scipy.linalg.blas import sgemm

    matrix = np.random.default_rng(0).standard_normal((size, size), np.float32).T
    return 2 * size ** 3 / _best(lambda: sgemm(1.0, matrix, matrix), repeats)


def copy_rate(mebibytes: int = 256, repeats: int = 5) -> float:
    """Bytes a second that one thread copies (each counted once), the best of ``repeats``."""
    source = np.ones(mebibytes * MEBIBYTE // 4, np.float32)
    target = np.empty_like(source)
    return source.nbytes / _best(lambda: np.copyto(target, source), repeats)


def _best(call: Callable[[], Any], repeats: int) -> float:
    call()
    return float(min(measure_in_turn({"call": call}, 0, repeats)["call"]))


def _cpu_info(path: str = "/proc/cpuinfo") -> dict[str, str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
