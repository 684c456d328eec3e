"""Networks by name. Importing this module does not import MindSpore."""
from __future__ import annotations

import difflib
from typing import Any, Callable

_BUILDERS: dict[str, Callable[[Any, Any], Any]] = {}


def register(*names: str) -> Callable:
    """Decorator: register ``build(model_config, data_config) -> nn.Cell`` under ``names``.

    The builder should import MindSpore inside, so that configs can be checked without it.
    """
    def add(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        for name in names:
            if name in _BUILDERS:
                raise ValueError(f"model.name={name!r} is already registered; choose another name")
            _BUILDERS[name] = build
        return build
    return add


def network_names() -> list[str]:
    """The names ``create_network`` knows, in order of registration."""
    return list(_BUILDERS)


def create_network(model_config: Any, data_config: Any) -> Any:
    """Build the network ``model_config.name`` asks for.

    Args:
        model_config: has name, num_classes and in_channels, for ResNets also stem, base_width and zero_gamma, for
            BERT instead bert.
        data_config: has image_size.

    Returns:
        nn.Cell mapping images (N, in_channels, image_size, image_size) to logits (N, num_classes), or a
        models.bert.network.BertForPretraining.

    Raises:
        ValueError: unknown name; the message names the nearest known one.
    """
    name = model_config.name
    if name not in _BUILDERS:
        near = difflib.get_close_matches(str(name), _BUILDERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? known: " if near else "known: "
        raise ValueError(f"model.name={name!r} is unknown; {hint}{', '.join(_BUILDERS)}")
    return _BUILDERS[name](model_config, data_config)


@register("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
def _resnet(model_config: Any, data_config: Any) -> Any:
    from models.resnet import resnet

    return resnet(int(model_config.name.removeprefix("resnet")), num_classes=model_config.num_classes,
                  in_channels=model_config.in_channels, stem=model_config.stem,
                  base_width=model_config.base_width, zero_gamma=model_config.zero_gamma)


@register("lenet5")
def _lenet(model_config: Any, data_config: Any) -> Any:
    from models.lenet import LeNet5

    return LeNet5(model_config.num_classes, model_config.in_channels, data_config.image_size)


@register("convnet3")
def _convnet(model_config: Any, data_config: Any) -> Any:
    from models.convnet import ConvNet

    return ConvNet(model_config.num_classes, model_config.in_channels, data_config.image_size)


@register("bert")
def _bert(model_config: Any, data_config: Any) -> Any:
    from models.bert.network import BertForPretraining

    return BertForPretraining(model_config.bert)
