"""Find the split dimension for a network, its data and this device.

``python -m models.tune_split --config CONFIG [--batches 4] [--picture split.png] [--section.key value ...]`` measures
whole factors on a few real batches, times inverses, prints both curves of THOR (AAAI 2021, section 3.3) and the
value to put in the configuration.
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from models.command_line import loading, parse, parser, quiet_mindspore, run
from models.config import Config, changed
from models.tune_split.choice import SplitChoice, choose_split


def main(words: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    quiet_mindspore()
    made = parser("python -m models.tune_split", "Find the split dimension for a network, its data and this device.")
    made.add_argument("--batches", type=int, default=4, help="batches the factors are averaged over (default 4)")
    made.add_argument("--picture", metavar="PNG", default="split_dim.png", help="where both curves are drawn")

    def tune() -> None:
        options, config = parse(made, words)
        if options.batches < 1:
            made.error(f"--batches={options.batches}; must be an int >= 1")
        choice = _tune_config(config, options.batches)
        draw(choice, Path(options.picture))
        print(report(choice))
        print(f"picture {options.picture}")
    return run(tune)


def _tune_config(config: Config, batches: int) -> SplitChoice:
    """The procedure for the network, data and device of a configuration."""
    with loading():
        from models.session import create_session
        from models.tune_split.measure import measure_factors, seconds_of_inverse

        session = create_session(changed(config, {"optimizer.name": "thor", "optimizer.split_dim": None,
                                                  "optimizer.split_indices": None}))
    data = session.train_set.create_tuple_iterator(num_epochs=1)
    factors = measure_factors(session.step, (batch for batch, _ in zip(data, range(batches))))
    return choose_split(factors, lambda size: seconds_of_inverse(session.optimizer.backend, size))


def report(choice: SplitChoice) -> str:
    """The table and the value to use."""
    lines = [f"{'split_dim':>9}  {'factors losing < 1 %':>20}  {'speed p_1 / p_n':>15}"]
    for n, share, speed in zip(choice.candidates, choice.share, choice.speed):
        lines.append(f"{n:>9}  {100 * share:>18.1f} %  {speed:>15.4f}{'  <' if n == choice.split_dim else ''}")
    crossing = "nowhere" if choice.crossing is None else f"at {choice.crossing:.0f}"
    lines.append(f"the curves cross {crossing}; use optimizer.split_dim: {choice.split_dim}")
    return "\n".join(lines)


def draw(choice: SplitChoice, path: Path) -> None:
    """Both curves and their crossing as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(choice.candidates, choice.share, marker=".", label="share of factors losing less than 1 %")
    axes.plot(choice.candidates, choice.speed, marker=".", label="normalised speed of the inverse, p_1 / p_n")
    if choice.crossing is not None:
        axes.axvline(choice.crossing, color="grey", linestyle=":", label=f"crossing at {choice.crossing:.0f}")
    axes.axvline(choice.split_dim, color="black", linewidth=0.8, label=f"split_dim {choice.split_dim}")
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set(xlabel="block size n", ylim=(0, 1.05))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, format="png")


if __name__ == "__main__":
    sys.exit(main())
