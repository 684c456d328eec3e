"""Plan a run: memory, step time, best mode and split_indices for so many devices.

``python -m models.planner --config CONFIG --devices 8,64 --profile PROFILE [--json FILE] [--section.key value ...]``
``python -m models.planner --config CONFIG --measure FILE [--profile PROFILE] [--section.key value ...]``
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from models.command_line import loading, parse, parser, positive, quiet_mindspore, run
from models.config import Config
from models.planner.profile import dump_profile, load_profile


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    quiet_mindspore()
    made = create_parser()

    def entry() -> None:
        options, config = parse(made, words)
        if (options.measure is None) == (options.devices is None):
            made.error("give either --devices and --profile, or --measure")
        if options.devices is not None and options.profile is None:
            made.error("--profile is missing; give one of configs/profiles/, or measure one with --measure")
        for name, path in (("--json", options.json), ("--measure", options.measure)):
            if path is not None and not Path(path).absolute().parent.is_dir():
                made.error(f"{name}={path}; its folder does not exist; create it or choose another file")
        measure(options, config) if options.measure else plan(options, config)
    return run(entry)


def create_parser() -> argparse.ArgumentParser:
    """The options; all others belong to the configuration."""
    made = parser("python -m models.planner", "Memory, step time, best mode and split_indices for so many devices.")
    made.add_argument("--devices", type=_device_counts, metavar="N,N,...", help="numbers of devices to plan for")
    made.add_argument("--profile", metavar="PROFILE", help="YAML of a device, see configs/profiles/")
    made.add_argument("--measure", metavar="FILE", help="instead: measure this device with this network, write FILE")
    made.add_argument("--sequence-length", type=positive, metavar="N",
                      help="tokens of a sequence of text (default: the network's longest)")
    made.add_argument("--json", metavar="FILE", help="also write the numbers there")
    return made


def plan(options: argparse.Namespace, config: Config) -> None:
    """Predict and print."""
    with loading():
        profile = load_profile(options.profile)
        from models.planner.report import numbers, report
        from models.planner.search import make_plans
        from models.planner.zoo import job_of, on_cpu

        job = job_of(on_cpu(config), Path(options.config).stem, options.sequence_length)
    plans = [make_plans(job, profile, devices) for devices in options.devices]
    print(report(job, profile, plans))
    if options.json:
        Path(options.json).write_text(json.dumps(numbers(job, profile, plans), indent=1) + "\n", encoding="utf-8")


def measure(options: argparse.Namespace, config: Config) -> None:
    """Measure and write a profile; the first of several processes writes."""
    with loading():
        base = None if options.profile is None else load_profile(options.profile)
        from models.planner.measure import measured_profile

        profile, first = measured_profile(config, base, options.sequence_length)
    if first:
        Path(options.measure).write_text(dump_profile(profile), encoding="utf-8")
        print(dump_profile(profile), end="")


def _device_counts(text: str) -> tuple[int, ...]:
    """An argparse type: ``8,64,256``."""
    return tuple(positive(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
