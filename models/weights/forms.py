"""Which names a network's weights can have: the forms of a model."""
from __future__ import annotations

from collections.abc import Iterable

import mindspore as ms
from mindspore import Parameter, nn

from models.config import ModelConfig
from models.weights.scheme import HUGGING_FACE, MINDSPORE, TORCHVISION, ZOO, Scheme

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
FLOATS = (ms.float32, ms.float16, ms.bfloat16)


def schemes(model: ModelConfig) -> dict[str, Scheme]:
    """The names of each form that files of such a network come in; that of this zoo is the first."""
    if model.name == "bert":
        from models.bert import names

        return {ZOO: names.ZOO, MINDSPORE: names.MINDSPORE, HUGGING_FACE: names.HUGGING_FACE}
    if model.name in RESNETS:
        from models.resnet import DEPTHS, BasicBlock, names

        basic = DEPTHS[int(model.name.removeprefix("resnet"))][0] is BasicBlock
        official = names.MINDSPORE_BASIC if basic else names.MINDSPORE
        return {ZOO: official if model.geometry == "official" else names.ZOO, MINDSPORE: official,
                TORCHVISION: names.TORCHVISION}
    return {ZOO: Scheme()}


def geometry_of(model: ModelConfig, form: str) -> str | None:
    """The value of model.geometry that weights of a ResNet in this form belong to; None for other networks."""
    if model.name not in RESNETS:
        return None
    return {MINDSPORE: "official", TORCHVISION: "standard"}.get(form, model.geometry)


def weights_of(model: ModelConfig, network: nn.Cell) -> dict[str, Parameter]:
    """The float parameters of ``network`` by the names that rows of schemes have on the left."""
    tabled = len(schemes(model)) > 1
    return {name if tabled else parameter.name: parameter for name, parameter in network.parameters_and_names()
            if parameter.dtype in FLOATS}


def likeliest(model: ModelConfig, weights: Iterable[str], names: Iterable[str]) -> str | None:
    """The form in which a file with these names has most of ``weights``; None where it has none of them."""
    counts = {}
    for form, scheme in schemes(model).items():
        current = scheme.current(names)
        counts[form] = sum(scheme.name(ours) in current for ours in weights)
    best = max(counts, key=lambda form: counts[form])
    return best if counts[best] else None
