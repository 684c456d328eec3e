"""Which optimizer to take: ``python -m models.compare --config FILE [options] [--section.key value ...]``."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from models.command_line import positive
from models.command_line import run as run_entry
from models.compare.execute import run_all, time_in_turn
from models.compare.picture import draw
from models.compare.plan import Comparison, Entry, read_comparison
from models.compare.results import Result, best_number, report, verdict, write_results, write_runs
from models.compare.runs import Outcome, Run


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the exit status."""
    made = argparse.ArgumentParser(
        prog="python -m models.compare", allow_abbrev=False,
        description="Train one network with several optimizers: the same number of settings for each, then the best "
                    "of each with more seeds. The same command goes on where it was interrupted.",
        epilog="Keys of the run's configuration hold for all runs, such as --data.path DIR.",
        usage="python -m models.compare --config FILE [options] [--section.key value ...]")
    made.add_argument("--config", required=True, type=Path, metavar="FILE", help="see configs/compare/")
    made.add_argument("--optimizers", metavar="NAME,...", help="only these, in this order; by default all of the file")
    made.add_argument("--budget", type=positive, metavar="N", help="settings tried for each; by default the file's")
    made.add_argument("--seeds", type=positive, metavar="N", help="runs of each best setting; by default the file's")
    made.add_argument("--output", type=Path, metavar="DIR", help="by default runs/compare/ and the file's name")
    made.add_argument("--plan", action="store_true", help="print what would be tried, run nothing")
    options, overrides = made.parse_known_args(words)

    def entry() -> None:
        only = [name.strip() for name in (options.optimizers or "").split(",") if name.strip()]
        comparison = read_comparison(options.config, only, options.budget, options.seeds)
        output = options.output or Path("runs") / "compare" / options.config.stem
        if options.plan:
            print(_plan_text(comparison, overrides, output))
        else:
            compare(comparison, overrides, output)
    return run_entry(entry)


def compare(comparison: Comparison, overrides: Sequence[str], output: Path) -> list[Result]:
    """Search, run the seeds, print the table and write it with a picture to ``output``.

    Raises:
        ConfigError, LoadError: one line about what cannot be used.
    """
    searched = _searches(comparison, overrides, output)
    print(f"search: {comparison.budget} settings for each of {len(comparison.entries)} optimizers")
    outcomes = run_all(searched, comparison.target)
    best = {entry.label: _best_run(comparison, entry, searched, outcomes) for entry in comparison.entries}
    seeded = [_with_seed(comparison, entry, best[entry.label], seed, overrides)
              for seed in range(2, comparison.seeds + 1) for entry in comparison.entries]
    if seeded:
        print(f"best settings with seeds 2 to {comparison.seeds}")
    more = run_all(seeded, comparison.target)
    every = list(zip([*searched, *seeded], [*outcomes, *more]))
    turns = _turns(list(best.values()), output)
    results = [_result(comparison, best[entry.label], every, turns) for entry in comparison.entries]
    write_results(output / "table.csv", results)
    write_runs(output / "runs.csv", *zip(*every), comparison.target)
    (output / "table.md").write_text(report(results, markdown=True) + "\n", encoding="utf-8")
    draw(results, output / "curves.png")
    print(f"\n{report(results)}\n\n{verdict(results)}\n{_closing(comparison, output)}")
    return results


def _searches(comparison: Comparison, overrides: Sequence[str], output: Path) -> list[Run]:
    """The runs of the search: the first setting of all optimizers, the second of all, ..."""
    settings = {entry.label: comparison.settings_of(entry) for entry in comparison.entries}
    return [Run(entry.label, number, settings[entry.label][number], 1,
                comparison.config_of(entry, settings[entry.label][number], 1, overrides), output / "runs")
            for number in range(comparison.budget) for entry in comparison.entries]


def _plan_text(comparison: Comparison, overrides: Sequence[str], output: Path) -> str:
    """The runs of the search, one a line, and whether they have been made."""
    lines = [f"{run.describe()}{'' if run.outcome() is None else ' (done)'}"
             for run in _searches(comparison, overrides, output)]
    more = len(comparison.entries) * (comparison.seeds - 1)
    return "\n".join([*lines, f"then {more} runs of the best settings with other seeds"])


def _closing(comparison: Comparison, output: Path) -> str:
    """How to read the table, and where it is."""
    chosen = {"accuracy": "highest final accuracy", "steps": "fewest steps to the target"}[comparison.choose]
    return (f"target {100 * comparison.target:g} %; {comparison.budget} settings each, chosen for the {chosen} with "
            f"seed 1; {comparison.seeds} seeds; seconds are steps x seconds a step, measured in turn, without "
            f"compilation and evaluation\n{output}: table.csv, table.md, runs.csv, curves.png")


def _best_run(comparison: Comparison, entry: Entry, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> Run:
    own = [(run, outcome) for run, outcome in zip(runs, outcomes) if run.label == entry.label]
    return own[best_number([outcome for _, outcome in own], comparison.choose, comparison.target)][0]


def _with_seed(comparison: Comparison, entry: Entry, best: Run, seed: int, overrides: Sequence[str]) -> Run:
    config = comparison.config_of(entry, best.setting, seed, overrides)
    return Run(best.label, best.number, best.setting, seed, config, best.parent)


def _turns(best: Sequence[Run], output: Path) -> dict[str, list[float]]:
    """Seconds a step in turn, of those whose steps cost the same all through training and did not diverge."""
    timed = [run for run in best if run.has_steady_steps and run.outcome().accuracy is not None]
    if not timed:
        return {}
    print(f"seconds a step of {len(timed)} optimizers in turn", flush=True)
    return time_in_turn(timed, output)


def _result(comparison: Comparison, best: Run, every: Sequence[tuple[Run, Outcome]],
            turns: dict[str, list[float]]) -> Result:
    own = [(run, outcome) for run, outcome in every if run.label == best.label]
    tried = [outcome for run, outcome in own if run.seed == 1]
    outcomes = tuple(outcome for run, outcome in own if run.number == best.number)
    return Result(best.label, best.setting, len(tried), sum(outcome.accuracy is None for outcome in tried), outcomes,
                  comparison.target, tuple(turns.get(best.label, ())))


if __name__ == "__main__":
    sys.exit(main())
