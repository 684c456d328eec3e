"""Plans as tables and as numbers for JSON."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from models.planner.job import Job
from models.planner.profile import DeviceProfile, Published
from models.planner.search import Plan, best

MEBIBYTE = 2 ** 20
STEP_ROWS = (
    ("forward and backward", "forward_backward"), ("preconditioning", "precondition"),
    ("all-reduce of gradients, not hidden", "gradients"), ("stale step", "stale"),
    ("covariances", "covariance"), ("im2col", "im2col"), ("packing of factors", "packing"),
    ("all-reduces of a refresh step, not hidden", "reductions"), ("inverses, busiest device", "inverse"),
    ("all-gather of inverses", "gather"), ("refresh step", "refresh"), ("average step", "amortised"),
    ("first-order step", "first_order"))
TOTALS = ("stale", "refresh", "amortised", "first_order")


def report(job: Job, profile: DeviceProfile, plans: Sequence[dict[str, Plan]]) -> str:
    """All tables."""
    blocks = job.block_sizes
    head = [f"{job.name}: {job.description}",
            f"{len(job.layers)} layers with factors, {len(blocks)} blocks, largest {max(blocks, default=0)} rows; "
            f"{job.gradient_numbers / 1e6:.2f} M trained numbers, {3e-9 * job.forward_flop:.3g} GFLOP forward and "
            "backward a micro-batch",
            f"profile {profile.name}: {profile.description}"]
    return "\n\n".join(["\n".join(head), *(of_devices(job, profile, modes) for modes in plans), summary(job, plans),
                        *_against_published(job, profile, plans)])


def of_devices(job: Job, profile: DeviceProfile, modes: dict[str, Plan]) -> str:
    """One number of devices: memory, step and traffic of both modes."""
    plans = list(modes.values())
    devices = plans[0].devices
    rows: list[tuple] = [(f"{devices} devices, global batch {devices * job.batch_size * job.micro_batches}",
                          *(plan.mode for plan in plans)), ("memory, MiB",)]
    rows += [(f"  {name}", *(f"{plan.memory[name] / MEBIBYTE:.1f}" for plan in plans)) for name in plans[0].memory]
    share = [f"{100 * plan.memory['total, at least'] / profile.memory_gib / 2 ** 30:.0f} %" for plan in plans]
    rows += [("  of the device's memory", *share), ("time, ms",)]
    for label, name in STEP_ROWS:
        indent = "" if name in TOTALS else "  "
        rows.append((f"  {indent}{label}", *(f"{1e3 * getattr(plan.step, name):.3f}" for plan in plans)))
    rows.append(("  overhead over first order", *(f"{100 * plan.step.overhead:.2f} %" for plan in plans)))
    rows.append(("sent by each device, MiB",))
    rows += [(f"  {name}", *(f"{plan.traffic[name] / MEBIBYTE:.2f}" for plan in plans)) for name in plans[0].traffic]
    if plans[0].minutes is not None:
        rows.append((f"{job.epochs} epochs of {plans[0].epoch_steps} steps, minutes",
                     *(f"{plan.minutes:.2f}" for plan in plans)))
    return table(rows)


def summary(job: Job, plans: Sequence[dict[str, Plan]]) -> str:
    """The best mode and cuts for each number of devices."""
    rows = [("devices", "best mode", "best split_indices", "refresh, ms", "as configured", "average, ms", "overhead",
             "minutes")]
    for modes in plans:
        plan = best(modes)
        minutes = "" if plan.minutes is None else f"{plan.minutes:.2f}"
        rows.append((plan.devices, plan.mode, list(plan.split_indices), f"{1e3 * plan.step.refresh:.2f}",
                     f"{1e3 * plan.configured.refresh:.2f}", f"{1e3 * plan.step.amortised:.2f}",
                     f"{100 * plan.step.overhead:.2f} %", minutes))
    return table(rows)


def _against_published(job: Job, profile: DeviceProfile, plans: Sequence[dict[str, Plan]]) -> list[str]:
    """A table of what the profile knows to have been published for this configuration; none if there is nothing."""
    rows = [row for modes in plans for entry in _published_for(job, profile, best(modes).devices)
            for row in _published_rows(job, entry, best(modes))]
    return [table([("published", "devices", "predicted", "published", "ratio", "remark"), *rows])] if rows else []


def _published_for(job: Job, profile: DeviceProfile, devices: int) -> list[Published]:
    """The results of the profile that belong to the configuration and the number of devices."""
    return [entry for entry in profile.published
            if entry.devices == devices and job.name.startswith(entry.config)]


def _published_rows(job: Job, entry: Published, plan: Plan) -> list[tuple]:
    """A row for every number of a result."""
    remark = f"{entry.source}{'; the profile was fitted to it' if entry.calibrated else ''}"
    rows = []
    for label, predicted, published in (("stale step, ms", plan.step.stale, entry.stale_seconds),
                                        ("refresh step, ms", plan.step.refresh, entry.refresh_seconds)):
        if published is not None:
            rows.append((label, plan.devices, f"{1e3 * predicted:.1f}", f"{1e3 * published:.1f}",
                         f"{predicted / published:.3f}", remark))
    if entry.minutes is not None and plan.minutes is not None:
        epochs = entry.minutes / plan.minutes * job.epochs
        rows.append((f"minutes, {job.epochs} epochs", plan.devices, f"{plan.minutes:.3g}", f"{entry.minutes:.3g}",
                     f"{plan.minutes / entry.minutes:.3f}",
                     f"{remark}; at the predicted step {entry.minutes:g} minutes are {epochs:.1f} epochs"))
    return rows


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as aligned columns, the first to the left; the first row is the head, short rows are headings."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells if len(row) > column) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def numbers(job: Job, profile: DeviceProfile, plans: Sequence[dict[str, Plan]]) -> dict[str, Any]:
    """Everything for JSON; times in seconds, sizes in bytes."""
    return {"job": {"name": job.name, "description": job.description, "layers": len(job.layers),
                    "blocks": len(job.block_sizes), "forward_flop": job.forward_flop,
                    "packed_bytes": job.packed_bytes, "dense_bytes": job.dense_bytes},
            "profile": dataclasses.asdict(profile),
            "plans": [_of_plan(plan) for modes in plans for plan in modes.values()],
            "best": {str(best(modes).devices): best(modes).mode for modes in plans},
            "published": [{**dataclasses.asdict(entry), "predicted_minutes": best(modes).minutes,
                           "predicted_stale_seconds": best(modes).step.stale,
                           "predicted_refresh_seconds": best(modes).step.refresh}
                          for modes in plans for entry in _published_for(job, profile, best(modes).devices)]}


def _of_plan(plan: Plan) -> dict[str, Any]:
    """One plan for JSON."""
    step = {**dataclasses.asdict(plan.step), **{name: getattr(plan.step, name) for name in (*TOTALS, "overhead")}}
    return {"devices": plan.devices, "mode": plan.mode, "split_indices": list(plan.split_indices), "step": step,
            "configured_refresh": plan.configured.refresh, "memory": plan.memory, "traffic": plan.traffic,
            "epoch_steps": plan.epoch_steps, "minutes": plan.minutes}
