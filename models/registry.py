"""Networks and image datasets by name. Importing this module does not import MindSpore.

A module of one's own adds to them, and a configuration that imports it uses the names::

    @register_network("mlp")                              imports: [my_module]
    def build(model_config, data_config): ...             model: {name: mlp}

Builders and readers import MindSpore inside, so that configurations can be checked without it.
"""
from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Network:
    """A kind of network.

    Attributes:
        build: ``build(model_config, data_config) -> nn.Cell``, see ``create_network``.
        reads_text: trained on text, not on images: on masked sentence pairs, or to tell the next token.
        tells_next: the latter.
        image_sizes: heights and widths it takes, in pixels; () for any.
        settings: what it reads of the section model beside num_classes and in_channels, or beside bert or gpt: of
            stem, base_width, zero_gamma and geometry. The others are refused where they are set.
    """

    build: Callable[[Any, Any], Any]
    reads_text: bool = False
    tells_next: bool = False
    image_sizes: tuple[int, ...] = ()
    settings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """What is known of an image dataset without opening it, and how to read it.

    Attributes:
        num_classes: labels are 0 to num_classes - 1.
        channels: of an image.
        image_size: height and width in pixels unless a configuration has others.
        mean, std: of the training pixels, in units of the largest pixel value, by channel.
        read: ``read(data_config, train, shuffle, num_parallel_workers, num_shards, shard_id) -> Dataset`` of the
            columns image, uint8 (H, W, C), and label. The last two are given for training data alone.
        flips: a mirrored object is still the same object: augmentation flips images.
        encoded: column image holds files, such as JPEG; they are decoded and cut out as usual for ImageNet.
        training_images: how many there are, None where it is not known; models.planner takes it for an epoch.
        has_files: it is read from data.path, which is refused otherwise.
        held_out_apart: held-out images may lie at data.eval_path, which is refused otherwise.
    """

    num_classes: int
    channels: int
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read: Callable[..., Any]
    flips: bool = False
    encoded: bool = False
    training_images: int | None = None
    has_files: bool = True
    held_out_apart: bool = False


_NETWORKS: dict[str, Network] = {}
_DATASETS: dict[str, ImageDataset] = {}


def register_network(*names: str, reads_text: bool = False, tells_next: bool = False,
                     image_sizes: tuple[int, ...] = (), settings: tuple[str, ...] = ()) -> Callable:
    """Decorator: register ``build(model_config, data_config) -> nn.Cell`` under ``names``; see Network.

    Raises:
        ValueError: a name is taken.
    """
    def add(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        for name in names:
            _add(_NETWORKS, "model.name", name, Network(build, reads_text, tells_next, image_sizes, settings))
        return build
    return add


def register_dataset(name: str, **facts: Any) -> Callable:
    """Decorator: register ``read(data_config, train, **options) -> Dataset`` under ``name``.

    Args:
        name: for data.name.
        facts: the attributes of ImageDataset but ``read``.

    Raises:
        ValueError: the name is taken.
    """
    def add(read: Callable[..., Any]) -> Callable[..., Any]:
        _add(_DATASETS, "data.name", name, ImageDataset(read=read, **facts))
        return read
    return add


def _add(table: dict[str, Any], setting: str, name: str, entry: Any) -> None:
    if name in table:
        raise ValueError(f"{setting}={name!r} is already registered; choose another name")
    table[name] = entry


def unregister_network(*names: str) -> None:
    """Forget networks; KeyError for a name that is not registered."""
    for name in names:
        del _NETWORKS[name]


def unregister_dataset(*names: str) -> None:
    """Forget datasets; KeyError for a name that is not registered."""
    for name in names:
        del _DATASETS[name]


def network_names() -> list[str]:
    """The registered networks, in order of registration."""
    return list(_NETWORKS)


def dataset_names() -> list[str]:
    """The registered image datasets, in order of registration."""
    return list(_DATASETS)


def network(name: str) -> Network:
    """The network registered under ``name``.

    Raises:
        ValueError: unknown name; the message names the nearest known one.
    """
    if name not in _NETWORKS:
        near = difflib.get_close_matches(str(name), _NETWORKS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? known: " if near else "known: "
        raise ValueError(f"model.name={name!r} is unknown; {hint}{', '.join(_NETWORKS)}")
    return _NETWORKS[name]


def dataset(name: str) -> ImageDataset:
    """The image dataset registered under ``name``; KeyError for another name."""
    return _DATASETS[name]


def create_network(model_config: Any, data_config: Any) -> Any:
    """Build the network ``model_config.name`` asks for.

    Args:
        model_config: has name, num_classes and in_channels, for ResNets also stem, base_width, zero_gamma and
            geometry, for BERT and GPT instead bert and gpt.
        data_config: has image_size.

    Returns:
        nn.Cell mapping images (N, in_channels, image_size, image_size) to logits (N, num_classes), or one that reads
        text as models.bert.network.BertForPretraining or models.gpt.network.Gpt does.

    Raises:
        ValueError: as of ``network``.
    """
    return network(model_config.name).build(model_config, data_config)


@register_network("resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
                  settings=("stem", "base_width", "zero_gamma", "geometry"))
def _resnet(model_config: Any, data_config: Any) -> Any:
    from models.resnet import resnet

    return resnet(int(model_config.name.removeprefix("resnet")), num_classes=model_config.num_classes,
                  in_channels=model_config.in_channels, stem=model_config.stem,
                  base_width=model_config.base_width, zero_gamma=model_config.zero_gamma,
                  geometry=model_config.geometry)


@register_network("lenet5", image_sizes=(28, 32))
def _lenet(model_config: Any, data_config: Any) -> Any:
    from models.lenet import LeNet5

    return LeNet5(model_config.num_classes, model_config.in_channels, data_config.image_size)


@register_network("convnet3")
def _convnet(model_config: Any, data_config: Any) -> Any:
    from models.convnet import ConvNet

    return ConvNet(model_config.num_classes, model_config.in_channels, data_config.image_size)


@register_network("bert", reads_text=True)
def _bert(model_config: Any, data_config: Any) -> Any:
    from models.bert.network import BertForPretraining

    return BertForPretraining(model_config.bert)


@register_network("gpt", reads_text=True, tells_next=True)
def _gpt(model_config: Any, data_config: Any) -> Any:
    from models.gpt.network import Gpt

    return Gpt(model_config.gpt)


@register_dataset("digits", num_classes=10, channels=1, image_size=8, mean=(0.3053,), std=(0.3760,),
                  training_images=1437, has_files=False)
def _digits(data_config: Any, train: bool, **options: Any) -> Any:
    from models.data.digits import digits_source

    return digits_source(data_config, train, **options)


@register_dataset("fashion_mnist", num_classes=10, channels=1, image_size=28, mean=(0.2860,), std=(0.3530,), flips=True,
                  training_images=60000)
@register_dataset("mnist", num_classes=10, channels=1, image_size=28, mean=(0.1307,), std=(0.3081,),
                  training_images=60000)
def _idx(data_config: Any, train: bool, **options: Any) -> Any:
    from models.data.idx import idx_source

    return idx_source(data_config, train, **options)


@register_dataset("cifar10", num_classes=10, channels=3, image_size=32, mean=(0.4914, 0.4822, 0.4465),
                  std=(0.2470, 0.2435, 0.2616), flips=True, training_images=50000)
def _cifar10(data_config: Any, train: bool, **options: Any) -> Any:
    from models.data.cifar import cifar10_source

    return cifar10_source(data_config, train, **options)


@register_dataset("imagenet", num_classes=1000, channels=3, image_size=224, mean=(0.485, 0.456, 0.406),
                  std=(0.229, 0.224, 0.225), flips=True, encoded=True, training_images=1281167, held_out_apart=True)
def _imagenet(data_config: Any, train: bool, **options: Any) -> Any:
    from models.data.imagenet import imagenet_source

    return imagenet_source(data_config, train, **options)
