"""How soon THOR reaches LAMB's final held-out masked-LM loss: the small BERT on the default corpus.

Both get the same data, batch, steps and number of tried settings; of each the run with the lowest final loss counts.
Steps come from whole runs of the zoo (into ``--runs``; a finished run is not run again), seconds a step from both
optimizers in turn (A B A B) in one process, THOR's refresh and stale steps as often as they come.

``python -m benchmarks.pretraining --data-path runs/bert_data --picture pretraining.png``; the data is that of
``scripts/run_standalone_pretrain.sh`` or ``python -m models.bert.prepare``.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import common, zoo_runs
from models.turns import measure_in_turn, step_at

CONFIGS = {"thor": "configs/bert/bert_small.yaml", "lamb": "configs/bert/bert_small_lamb.yaml"}
SETTINGS = {
    "thor": [{"optimizer.learning_rate.initial": 0.03, "optimizer.damping.initial": 0.05},
             {"optimizer.learning_rate.initial": 0.06, "optimizer.damping.initial": 0.05},
             {"optimizer.learning_rate.initial": 0.03, "optimizer.damping.initial": 0.02},
             {"optimizer.learning_rate.initial": 0.06, "optimizer.damping.initial": 0.1},
             {"optimizer.learning_rate.initial": 0.1, "optimizer.damping.initial": 0.1}],
    "lamb": [{"optimizer.learning_rate.initial": 0.01}, {"optimizer.learning_rate.initial": 0.02},
             {"optimizer.learning_rate.initial": 0.005}, {"optimizer.learning_rate.initial": 0.0025},
             {"optimizer.learning_rate.initial": 0.00125}],
}


def main(words: Sequence[str] | None = None) -> int:
    """Run what is left; the exit status."""
    made = common.parser("pretraining", "Steps and seconds in which THOR reaches LAMB's final masked-LM loss.")
    made.add_argument("--data-path", metavar="DIR", default="runs/bert_data", help="prepared data")
    made.add_argument("--epochs", type=common.at_least(1), default=6, help="of 100 steps")
    made.add_argument("--runs", metavar="DIR", default="pretraining", help="folder of the runs")
    made.add_argument("--picture", metavar="PNG", help="draw the losses of all runs")
    common.add_timing(made, warmup=5, repeats=21)
    options = made.parse_args(words)

    def measure() -> dict[str, Any]:
        common.check_writable(options.picture)
        runs = [{"optimizer": name, "setting": setting, **read_run(zoo_runs.run(name, config(options, name, setting)))}
                for turn in zip(*SETTINGS.values()) for name, setting in zip(SETTINGS, turn)]
        numbers = summary(runs, time_steps(options))
        if options.picture:
            draw(runs, numbers, Path(options.picture))
        return {**numbers, "runs": runs, "steps": runs[0]["steps"][-1], "warmup": options.warmup,
                "repeats": options.repeats, "machine": common.machine()}
    return common.run_measurement(measure, report, options.json)


def config(options: Any, name: str, setting: dict[str, Any]) -> Any:
    """The configuration of a run."""
    words = [f"--{key}={value}" for key, value in setting.items()]
    return zoo_runs.load(CONFIGS[name], [*words, f"--data.path={options.data_path}", f"--train.epochs={options.epochs}",
                                         f"--train.run_dir={Path(options.runs) / name}", f"--seed={options.seed}"])


def read_run(folder: Path) -> dict[str, Any]:
    """Held-out masked-LM losses of a finished run, by step."""
    rows = [row for row in zoo_runs.rows(folder / "metrics.csv") if row["eval_mlm_loss"]]
    return {"steps": [int(row["step"]) for row in rows], "losses": [float(row["eval_mlm_loss"]) for row in rows],
            "accuracy": float(rows[-1]["eval_accuracy"])}


def time_steps(options: Any) -> dict[str, float]:
    """Median seconds of a step of each optimizer, in turn; THOR's over a whole interval between refreshes."""
    import numpy as np

    from models.command_line import quiet_mindspore

    quiet_mindspore()
    from models.session import create_session

    sessions = {name: create_session(config(options, name, SETTINGS[name][0])) for name in CONFIGS}
    batch = next(sessions["thor"].train_set.create_tuple_iterator(num_epochs=1))
    lamb, thor = ((sessions[name].step, sessions[name].optimizer, batch) for name in ("lamb", "thor"))
    sides = {"lamb": step_at(*lamb), "stale": step_at(*thor, 1), "refresh": step_at(*thor, 0)}
    seconds = {name: float(np.median(values))
               for name, values in measure_in_turn(sides, options.warmup, options.repeats).items()}
    frequency = sessions["thor"].config.optimizer.frequency
    return {"lamb": seconds["lamb"], "thor": common.amortised(seconds["stale"], seconds["refresh"], frequency)}


def summary(runs: list[dict[str, Any]], seconds: dict[str, float]) -> dict[str, Any]:
    """The best run of each, and where THOR's passes LAMB's final loss, linear between evaluations."""
    best = {name: min((run for run in runs if run["optimizer"] == name), key=lambda run: run["losses"][-1])
            for name in CONFIGS}
    target, steps = best["lamb"]["losses"][-1], best["lamb"]["steps"][-1]
    reached = first_step(best["thor"]["steps"], best["thor"]["losses"], target)
    ratio = None if reached is None else reached / steps
    return {"target_loss": target, "lamb_steps": steps, "thor_steps": reached, "step_ratio": ratio,
            "time_ratio": None if ratio is None else ratio * seconds["thor"] / seconds["lamb"],
            "seconds_a_step": seconds, "best": {name: run["setting"] for name, run in best.items()}}


def first_step(steps: Sequence[int], losses: Sequence[float], target: float) -> float | None:
    """The step at which the loss first comes down to ``target``, linear between evaluations; None if it does not."""
    for i, loss in enumerate(losses):
        if loss <= target:
            if i == 0:
                return float(steps[0])
            share = (losses[i - 1] - target) / (losses[i - 1] - loss)
            return steps[i - 1] + share * (steps[i] - steps[i - 1])
    return None


def report(numbers: dict[str, Any]) -> str:
    """The table to print."""
    rows = [("optimizer", "setting", "held-out MLM loss", "MLM accuracy")]
    for run in numbers["runs"]:
        setting = ", ".join(f"{key.removeprefix('optimizer.').removesuffix('.initial')} {value}"
                            for key, value in run["setting"].items())
        rows.append((run["optimizer"], setting, f"{run['losses'][-1]:.4f}", f"{100 * run['accuracy']:.2f} %"))
    seconds = numbers["seconds_a_step"]
    if numbers["thor_steps"] is None:
        outcome = f"THOR does not reach LAMB's final loss of {numbers['target_loss']:.4f}"
    else:
        outcome = (f"THOR reaches LAMB's final loss of {numbers['target_loss']:.4f} after "
                   f"{numbers['thor_steps']:.0f} of {numbers['lamb_steps']} steps: "
                   f"{numbers['step_ratio']:.2f} of the steps, {numbers['time_ratio']:.2f} of the time")
    return "\n".join([f"small BERT, {numbers['steps']} steps, losses on held-out documents",
                      common.describe(numbers["machine"]), "", common.table(rows), "",
                      f"seconds a step in turn: lamb {seconds['lamb']:.4f}, thor {seconds['thor']:.4f} with refreshes",
                      outcome])


def draw(runs: list[dict[str, Any]], numbers: dict[str, Any], path: Path) -> None:
    """Held-out losses of all runs against steps; the best of each in full colour, and LAMB's final loss."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for run in runs:
        best = run["setting"] == numbers["best"][run["optimizer"]]
        axes.plot(run["steps"], run["losses"], marker=".", color={"thor": "C0", "lamb": "C1"}[run["optimizer"]],
                  alpha=1.0 if best else 0.3, label=run["optimizer"] if best else None)
    axes.axhline(numbers["target_loss"], color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel="step", ylabel="held-out masked-LM loss")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, format="png")


if __name__ == "__main__":
    sys.exit(main())
