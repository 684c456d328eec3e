"""Names of a ResNet's parameters in MindSpore's ResNet program (mindspore-ai/models, official/cv/ResNet) and in
torchvision."""
from __future__ import annotations

from models.weights.scheme import Scheme

STAGES = 4


def _rows(norm: str, shortcut: str, head: str) -> dict[str, str]:
    rows = {"conv1.*": "conv1.*", "bn1.*": "bn1.*", "fc.*": f"{head}.*"}
    for stage in range(STAGES):
        ours, theirs = f"stages.{stage}.#", f"layer{stage + 1}.#"
        rows |= {f"{ours}.conv#.*": f"{theirs}.conv#.*", f"{ours}.bn#.*": f"{theirs}.{norm}.*",
                 f"{ours}.shortcut.#.*": f"{theirs}.{shortcut}.#.*"}
    return rows


ZOO = Scheme({row: row for row in _rows("bn#", "shortcut", "fc")})
MINDSPORE = Scheme(_rows("bn#", "down_sample_layer", "end_point"))
MINDSPORE_BASIC = Scheme(_rows("bn#d", "down_sample_layer", "end_point"))  # ResNet-18 and 34
TORCHVISION = Scheme(_rows("bn#", "downsample", "fc"), leaves={
    "gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"})
