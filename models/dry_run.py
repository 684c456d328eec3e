"""What a run would take, without training: ``python -m models.train --dry_run --config FILE ...``."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from models.checkpoint_file import BEST
from models.command_line import loading
from models.config import Config, ConfigError
from models.run_folder import CONFIG, RunFolder, differing_keys, open_run_folder

if TYPE_CHECKING:
    from mindspore import Parameter

    from models.session import Session

MEBIBYTE = 2 ** 20
KINDS = WEIGHTS, BUFFERS, FACTORS, INVERSES, MOMENTUM, AVERAGES, STATE = (
    "weights", "other parameters of the network", "factors", "inverses", "momentum", "averages", "other state")
TIMELESS = {  # settings that do not change the time of a step
    "seed", "train.epochs", "train.eval_every_epochs", "train.checkpoint_every_epochs", "train.checkpoint_every_steps",
    "train.checkpoint_keep", "train.keep_best", "train.early_stop.patience", "train.early_stop.min_delta",
    "train.skipped_limit", "train.init_from", "data.eval_batch_size", "optimizer.learning_rate.initial",
    "optimizer.weight_decay"}
MOMENTS = ("moment", "second_moments.", "lamb_m.", "lamb_v.", "accum.", "stat.")  # how names of running means begin


def dry_run(config: Config, profile: str | None = None) -> None:
    """Build network, data, optimizer and step, load what the run would begin with, and print what it takes.

    Nothing is trained, compiled or written.

    Args:
        config: the run.
        profile: YAML file of a device to model the time with, see ``models.planner``; None for no time.

    Raises:
        ConfigError, LoadError: those of a run of this configuration.
    """
    from models.session import create_session
    from models.train import restore

    with loading():
        session = create_session(config)
        folder = open_run_folder(config, dry=True)
        done = restore(session, folder, delete=False)
        time = time_measured(session, folder, done) if profile is None else time_modelled(session, profile, done)
    if session.ranks.is_first:
        print(report(session, folder, done, time))


def report(session: Session, folder: RunFolder, done: int, time: str) -> str:
    """Everything in lines."""
    config = session.config
    head = (f"dry run of {config.model.name} on {config.data.name} with {config.optimizer.name}, "
            f"{config.device.target}: nothing is trained or written")
    rows = [*_length(session, done), *_memory(session), ("time", time), ("the run would", _beginning(folder, done)),
            *(("with weights", line) for line in session.begun_with)]
    width = max(len(name) for name, _ in rows)
    return "\n".join([head, "", _table(session), "", *(f"{name:<{width}}  {value}".rstrip() for name, value in rows)])


def _table(session: Session) -> str:
    """What happens to every trainable parameter."""
    from models.optimizers import thor_within

    optimizer = thor_within(session.optimizer)
    if optimizer is not None:
        return optimizer.registration_table()
    rows = [("parameter", "shape")]
    rows += [(p.name, "x".join(map(str, p.shape)) or "()") for p in session.network.trainable_params()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {shape}" for name, shape in rows)


def steps_left(session: Session, done: int) -> range:
    """The optimizer steps of a run after ``done`` batches, were none skipped."""
    every, batches = session.config.train.accumulate_steps, session.config.train.epochs * session.batches_per_epoch
    return range(done // every, batches // every)


def refreshes_within(session: Session, steps: range) -> int | None:
    """How many of ``steps`` refresh curvature; None where the optimizer has none."""
    from models.optimizers import thor_within

    optimizer = thor_within(session.optimizer)
    return None if optimizer is None else sum(map(optimizer.refresh_due_at, steps))


def _length(session: Session, done: int) -> list[tuple[str, str]]:
    train, steps = session.config.train, steps_left(session, done)
    batches, samples = session.batches_per_epoch, session.config.data.batch_size * session.ranks.count
    micro = f", {train.accumulate_steps} of them a step" if train.accumulate_steps > 1 else ""
    rows = [("steps", f"{len(steps)}: {train.epochs} epochs of {batches} batches of {samples}{micro}"
             + (f", less {done} batches that are done" if done else ""))]
    refreshes = refreshes_within(session, steps)
    return rows if refreshes is None else [*rows, ("refreshes of curvature", str(refreshes))]


def state_bytes(session: Session) -> dict[str, int]:
    """Bytes of the state of training by what it is for; the sum is what a checkpoint holds."""
    from models.averages import PREFIX
    from models.optimizers import thor_within

    thor = thor_within(session.optimizer)
    layers = [] if thor is None else thor.registration.layers
    factors = {id(p) for layer in layers for p in layer.factor_parameters.values()}
    trained = {id(p) for p in session.network.trainable_params()} - factors
    of_network = {id(p) for p in session.network.get_parameters()} - factors
    sizes = dict.fromkeys(KINDS, 0)
    for parameter in session.step.get_parameters():
        place = id(parameter)
        kind = WEIGHTS if place in trained else BUFFERS if place in of_network else FACTORS if place in factors else \
            INVERSES if parameter.name.rpartition(".")[2].startswith(("inverses_", "inverse_a")) else \
            MOMENTUM if parameter.name.startswith(MOMENTS) else AVERAGES if parameter.name.startswith(PREFIX) else STATE
        sizes[kind] += parameter_bytes([parameter])
    return sizes


def parameter_bytes(parameters: Iterable[Parameter]) -> int:
    """Bytes of the values of ``parameters``."""
    return sum(parameter.size * parameter.itemsize for parameter in parameters)


def _memory(session: Session) -> list[tuple[str, str]]:
    train = session.config.train
    network, sizes = list(session.network.trainable_params()), state_bytes(session)
    checkpoint, kept = sum(sizes.values()), train.checkpoint_keep + train.keep_best
    rows: list[tuple[str, Any]] = [
        ("trained numbers", f"{sum(p.size for p in network):,} in {len(network)} parameters"), ("memory, MiB", "")]
    rows += [(f"  {kind}", _mebibytes(size)) for kind, size in sizes.items() if size]
    rows.append(("  together", _mebibytes(checkpoint)))
    rows.append(("  in a step, beside", f"gradients {_mebibytes(sizes[WEIGHTS])}" + (
        f", in a refresh measured factors {_mebibytes(sizes[FACTORS])}" if sizes[FACTORS] else "")
        + "; activations are not counted"))
    files = f"up to {kept} are kept" + (f", {BEST} among them" if train.keep_best else "")
    rows.append(("checkpoints, MiB", f"{_mebibytes(checkpoint)} each; {files}, {_mebibytes(kept * checkpoint)}"))
    return rows


def _mebibytes(size: float) -> str:
    return f"{size / MEBIBYTE:.2f}"


def time_measured(session: Session, folder: RunFolder, done: int) -> str:
    """The time of the batches that are left as an earlier run's steps took, or that there is none."""
    from models.summary.reading import read_run

    for path in sorted(folder.path.parent.glob(f"*/{CONFIG}"), reverse=True):
        try:
            run = read_run(path.parent)
        except (ConfigError, OSError):
            continue
        seconds = run.outcome.step_seconds
        if seconds and set(differing_keys(session.config, run.config)) <= TIMELESS:
            batches = session.config.train.epochs * session.batches_per_epoch - done
            return (f"{batches * seconds / 60:.1f} min of steps, measured in {path.parent} ({1e3 * seconds:.3g} ms a "
                    "batch); without compilation, evaluation, checkpoints")
    return "not estimated; --profile FILE models it from the profile of a device (docs/planner.md)"


def time_modelled(session: Session, path: str, done: int) -> str:
    """The time of the steps that are left as models.planner models it."""
    from models.planner.predict import step_time
    from models.planner.profile import load_profile
    from models.planner.zoo import job_of

    profile, config = load_profile(path), session.config
    step = step_time(job_of(config), profile, session.ranks.count, config.parallel.curvature)
    steps = steps_left(session, done)
    refreshes = refreshes_within(session, steps) or 0
    seconds = (len(steps) - refreshes) * step.stale + refreshes * step.refresh
    return (f"{seconds / 60:.1f} min of steps, modelled by models.planner from {profile.name} "
            f"({1e3 * step.stale:.3g} ms a stale step, {1e3 * step.refresh:.3g} ms a refresh); without data, "
            "compilation, evaluation, checkpoints")


def _beginning(folder: RunFolder, done: int) -> str:
    if folder.resumes:
        return f"go on with {folder.path} after batch {done}"
    start = f", after batch {done} of {folder.start_from}" if folder.start_from else ""
    return f"begin in a new folder in {folder.path.parent}{start}"
