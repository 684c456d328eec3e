"""The trace rule at work: one network trained with each update policy, accuracy against layer refreshes.

Every policy is a whole run of the zoo, into ``--runs``/POLICY; a finished run is not run again, an interrupted one
goes on. ``fixed`` refreshes all layers every ``optimizer.frequency`` steps; the others are THOR's rule (AAAI 2021)
with the published thresholds, asked at the same steps.

``python -m benchmarks.update_policies --picture policies.png``
"""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common, zoo_runs

POLICIES = {
    "fixed": ("fixed", 0.01, 0.0),
    "THOR": ("trace", 0.01, 0.0),
    "THOR_stop": ("trace", 0.01, 0.001),
    "THOR_NT": ("trace", 0.0, 0.0),
}


def main(words: Sequence[str] | None = None) -> int:
    """Train what is left; the exit status."""
    made = common.parser("update_policies", "Accuracy against layer refreshes, for each update policy.")
    made.add_argument("--config", metavar="YAML", default="configs/resnet/resnet18_fashion_mnist_fast.yaml")
    made.add_argument("--epochs", type=common.at_least(1), default=2)
    made.add_argument("--frequency", type=common.at_least(1), default=20, help="steps between refreshes")
    made.add_argument("--runs", metavar="DIR", default="update_policies", help="folder of the runs")
    made.add_argument("--picture", metavar="PNG", help="draw refreshes and accuracy")
    options = made.parse_args(words)

    def measure() -> dict[str, Any]:
        common.check_writable(options.picture)
        results = {name: read_run(zoo_runs.run(name, zoo_runs.load(options.config, overrides(options, name))))
                   for name in POLICIES}
        if options.picture:
            draw(results, Path(options.picture))
        return {"results": results, "epochs": options.epochs, "frequency": options.frequency,
                "config": options.config, "machine": common.machine()}
    return common.run_measurement(measure, report, options.json)


def overrides(options: Any, name: str) -> list[str]:
    """A policy as command line words of the zoo."""
    policy, w1, w2 = POLICIES[name]
    return [f"--train.epochs={options.epochs}", f"--optimizer.frequency={options.frequency}",
            f"--seed={options.seed}", f"--train.run_dir={Path(options.runs) / name}",
            f"--curvature.update.policy={policy}",
            *([f"--curvature.update.w1={w1}", f"--curvature.update.w2={w2}"] if policy == "trace" else [])]


def read_run(folder: Path) -> dict[str, Any]:
    """Accuracy, seconds, and what every refresh did, of a finished run."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    rows = zoo_runs.rows(folder / "curvature.csv")
    steps = sorted({int(row["step"]) for row in rows})
    refreshed = {step: sum(int(row["step"]) == step and row["status"] == "refreshed" for row in rows)
                 for step in steps}
    return {"accuracy": results["top_1_accuracy"], "loss": results["loss"], "layer_refreshes": sum(refreshed.values()),
            "layers": len({row["layer"] for row in rows}), "refresh_steps": steps,
            "refreshed": list(refreshed.values()), "folder": str(folder)}


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    results = numbers["results"]
    whole = results["fixed"]["layer_refreshes"]
    rows = [("policy", "w1", "w2", "layer refreshes", "of fixed", "test accuracy", "test loss")]
    for name, (_, w1, w2) in POLICIES.items():
        run, rule = results[name], name != "fixed"
        rows.append((name, w1 if rule else "", w2 if rule else "", run["layer_refreshes"],
                     f"{run['layer_refreshes'] / whole:.3f}", f"{100 * run['accuracy']:.2f} %", f"{run['loss']:.4f}"))
    return "\n".join([f"{numbers['config']}, {numbers['epochs']} epochs, a refresh step every "
                      f"{numbers['frequency']} steps, {results['fixed']['layers']} layers",
                      common.describe(numbers["machine"]), "", common.table(rows)])


def draw(results: dict[str, Any], path: Path) -> None:
    """Layer refreshes so far against steps, with the final accuracy of each policy."""
    from itertools import accumulate

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, run in results.items():
        axes.step(run["refresh_steps"], list(accumulate(run["refreshed"])), where="post",
                  label=f"{name}: {run['layer_refreshes']} refreshes, {100 * run['accuracy']:.2f} %")
    axes.set(xlabel="step", ylabel="layer refreshes so far", title="layer refreshes and final test accuracy")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, format="png")


if __name__ == "__main__":
    sys.exit(main())
