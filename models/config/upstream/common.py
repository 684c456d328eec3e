"""What the flat files of all programs share."""
from __future__ import annotations

from models.config.errors import ConfigError
from models.config.upstream.flat import Flat

TARGETS = ("CPU", "GPU", "Ascend")

DROPPED = {
    "ModelArts is not used here": ("enable_modelarts", "data_url", "train_url", "checkpoint_url", "load_path"),
    "a run has its own folder, and models.evaluate is given a checkpoint": (
        "output_dir", "output_path", "checkpoint_path", "checkpoint_file_path", "save_checkpoint_path"),
    "for debugging": ("enable_profiling", "save_graphs", "save_graphs_path", "print_per_steps"),
}


def device(flat: Flat, distributed: bool) -> str:
    """Settle the keys of devices, and the seed; the target.

    Raises:
        ConfigError: another kind of device.
    """
    target = flat.value("device_target", "Ascend")
    if target not in TARGETS:
        raise flat.refused("device_target", f"must be one of {', '.join(TARGETS)}", "choose one of these")
    flat.put("device.target", target, "device_target")
    flat.move("seed", "seed")
    if target != "CPU":
        flat.move("device_id", "device.device_id")
    flat.drop("a CPU has one device", "device_id")
    switch = "run_distribute" if "run_distribute" in flat.given else "distribute"
    if distributed:
        flat.put("parallel.device_num", flat.value("device_num", 1), "device_num", switch)
    else:
        flat.put("parallel.device_num", 1, switch, "device_num")
    return target


def refuse_set(flat: Flat, key: str, remedy: str) -> None:
    """Refuse True where False is all there is here."""
    if flat.flag(key, False):
        raise flat.refused(key, "must be false", remedy)
    flat.drop("off or empty", key)


def weights_alone(flat: Flat, key: str) -> None:
    """Settle the checkpoint whose weights alone a run begins with."""
    if flat.has(key):
        flat.move(key, "train.init_from")
    flat.drop("off or empty", key)


def section_of(flat: Flat, key: str, what: str) -> Flat:
    """A section that ``what`` chose; ConfigError where it is missing."""
    if key not in flat.given:
        raise ConfigError(f"{key} is missing; must be a section of the file with {what}; take it from the published "
                          "file", key, flat.where)
    return flat.inside(key)
