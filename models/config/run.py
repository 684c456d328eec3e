"""What runs and on what: device, model, data, loss, training and parallel sections."""
from __future__ import annotations

import dataclasses
from typing import Any

from models import registry
from models.config.bert import BertConfig
from models.config.errors import invalid
from models.config.gpt import GptConfig
from models.config.paths import file_path
from models.config.section import Section, subsection
from models.config.transformer import TransformerConfig
from thor.checks import Check, ascending, choice, flag, integer, number, optional, registered, setting

ONEDNN_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI",
               "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX", "AVX512_CORE_AMX_FP16")
TEXT = "text"
LOGS = ("tensorboard", "summary")  # written by models.logs


@dataclasses.dataclass(frozen=True)
class DeviceConfig(Section):
    """Where and how the graphs run.

    Attributes:
        target: CPU, GPU or Ascend.
        device_id: GPU, Ascend: index of the device among those of its kind.
        mode: graph (compiled, fast) or pynative (step by step, for debugging).
        convolution_isa: CPU: instruction set oneDNN may use. auto chooses by what the network does, off
            leaves the environment as it is, a oneDNN name (AVX2, AVX512_CORE, ...) is taken as it is.
    """

    target: str = setting("CPU", choice("CPU", "GPU", "Ascend"))
    device_id: int = setting(0, integer(0, limit=9999))
    mode: str = setting("graph", choice("graph", "pynative"))
    convolution_isa: str = setting("auto", choice("auto", "off", *ONEDNN_ISAS))


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section):
    """The network. stem, base_width, zero_gamma and geometry are of ResNets; num_classes and in_channels of images;
    bert and gpt of the networks of that name.

    Attributes:
        name: resnet18, resnet34, resnet50, resnet101, resnet152, lenet5, convnet3, bert, gpt, or another of
            models.registry.
        num_classes: width of the logits; null for the dataset's number of classes.
        in_channels: channels of the images; null for the dataset's.
        stem: imagenet (7x7 stride 2 and a pool, total stride 32), small (3x3 stride 1, total stride 8); null
            for imagenet from 64 pixels on, small below.
        base_width: channels of the first stage, 64 as published; later stages have 2, 4 and 8 times as many.
        zero_gamma: start every residual branch at zero. MindSpore's ResNet program does so for resnet152 and, with
            THOR, for resnet50 and resnet101.
        geometry: standard (padding and BatchNorm as in torchvision) or official: padding, BatchNorm's constants,
            initial values and names of parameters are those of MindSpore's ResNet program, whose checkpoints fit.
        bert, gpt: their sizes and options.
    """

    name: str = setting("resnet18", registered(registry.network_names))
    num_classes: int | None = setting(None, optional(integer(1, limit=10 ** 6), "the dataset's number of classes"))
    in_channels: int | None = setting(None, optional(integer(1, limit=4096), "the dataset's channels"))
    stem: str | None = setting(None, optional(choice("imagenet", "small"), "what fits the image size"))
    base_width: int = setting(64, integer(1, limit=4096))
    zero_gamma: bool = setting(True, flag())
    geometry: str = setting("standard", choice("standard", "official"))
    bert: BertConfig = subsection(BertConfig)
    gpt: GptConfig = subsection(GptConfig)

    @property
    def reads_text(self) -> bool:
        """Whether the network is trained on text, not on images."""
        return registry.network(self.name).reads_text

    @property
    def tells_next(self) -> bool:
        """Whether the network is trained to tell the next token of a text."""
        return registry.network(self.name).tells_next

    @property
    def transformer(self) -> TransformerConfig:
        """The sizes of a network that reads text."""
        return self.gpt if self.tells_next else self.bert


@dataclasses.dataclass(frozen=True)
class DataConfig(Section):
    """Images and labels, masked sentence pairs, or sequences of tokens. image_size and augment are of images.

    Attributes:
        name: digits (ships with scikit-learn), mnist, fashion_mnist, cifar10, imagenet, or another of models.registry;
            text for MindRecord files of models.bert.prepare or TFRecord files of BERT, for gpt those of
            models.gpt.prepare.
        path: folder of the dataset; not used by digits. text: holds train/ and held_out/, or only training files.
            imagenet: holds train/ and val/, or with eval_path the classes of training alone; to evaluate, those of
            held-out images alone.
        eval_path: text: file or folder of held-out records; null for held_out/ in path. imagenet: folder of held-out
            images; null for val/ in path.
        batch_size: training images, sentence pairs or sequences a step and device.
        eval_batch_size: evaluation images a step; null for batch_size.
        image_size: height and width in pixels; null for the dataset's own (8, 28, 28, 32, 224).
        workers: threads that read and augment; more than the machine has cores are not started.
        augment: random crops and flips as usual for the dataset, in training only.
    """

    name: str = setting("digits", registered(lambda: [*registry.dataset_names(), TEXT]))
    path: str = setting("", file_path("the path of a folder", empty=True))
    eval_path: str | None = setting(None, optional(file_path("the path of a file or folder"),
                                                   "held_out/ or val/ in data.path"))
    batch_size: int = setting(64, integer(1, limit=10 ** 6))
    eval_batch_size: int | None = setting(None, optional(integer(1, limit=10 ** 6), "data.batch_size"))
    image_size: int | None = setting(None, optional(integer(1, limit=4096), "the dataset's own size"))
    workers: int = setting(2, integer(1))
    augment: bool = setting(True, flag())

    def check_together(self) -> None:
        if self.eval_batch_size is None:
            object.__setattr__(self, "eval_batch_size", self.batch_size)
        if self.image_size is None and self.name != TEXT:
            object.__setattr__(self, "image_size", self.facts.image_size)

    @property
    def facts(self) -> registry.ImageDataset:
        """What is known of an image dataset without opening it."""
        return registry.dataset(self.name)


@dataclasses.dataclass(frozen=True)
class LossConfig(Section):
    """Softmax cross entropy; ``label_smoothing`` is the share of probability spread over all classes."""

    label_smoothing: float = setting(0.0, number(minimum=0, below=1))


def _logs() -> Check:
    """Different names of logs, one or a list, kept as a tuple."""
    def parse(value: Any) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or len(set(map(str, names))) < len(names):
            raise ValueError
        return tuple(choice(*LOGS).parse(name) for name in names)
    return Check(f"a list of {' and '.join(LOGS)}, each at most once", parse)


@dataclasses.dataclass(frozen=True)
class EarlyStopConfig(Section):
    """A run that ends where its held-out accuracy rises no more.

    Attributes:
        patience: evaluations in a row without a rise after which the run ends; null for none.
        min_delta: the accuracy must rise above its best by more than this, on a scale from 0 to 1.
    """

    patience: int | None = setting(None, optional(integer(1), "no early stop"))
    min_delta: float = setting(0.0, number(minimum=0, below=1))


@dataclasses.dataclass(frozen=True)
class EmaConfig(Section):
    """Averages of the weights that are kept, saved and evaluated beside them (models.averages).

    Attributes:
        decay: share of the average that an update leaves, such as 0.999; null for no averages.
    """

    decay: float | None = setting(None, optional(number(above=0, below=1), "no averages"))


@dataclasses.dataclass(frozen=True)
class TrainConfig(Section):
    """The training run.

    Attributes:
        epochs: passes over the training images.
        amp_level: O0 (float32), O1, O2, O3 or auto, as in mindspore.amp.
        keep_batchnorm_fp32: O2, O3: BatchNorm in float32 or not; null for the level's own choice, yes in O2, no in O3.
        accumulate_steps: micro-batches averaged into one optimizer step.
        sink: feed the device through MindSpore's data sink; on CPU, which has none, steps run one by one. Progress,
            metrics.csv and curvature.csv then hold what the last step of each sink shows.
        sink_size: sink: steps that count as an epoch, -1 for a pass over the data. The device takes them in
            about 50 sinks, one of which ends wherever an epoch ends or a checkpoint is due (models.sinks).
        eval_every_epochs: epochs between evaluations, the last of which is at the end; 0 for that alone.
        checkpoint_every_epochs: epochs between checkpoints, 0 for none by epoch.
        checkpoint_every_steps: optimizer steps between checkpoints, 0 for none by step.
        checkpoint_keep: checkpoints kept; older ones are deleted.
        keep_best: also keep the checkpoint with the best held-out accuracy, as checkpoints/best.ckpt.
        early_stop: ends a run whose held-out accuracy rises no more.
        ema: averages of the weights, evaluated and saved beside them.
        record_gradient_norm: metrics.csv has the L2 norm of all weights' gradients together, before clipping.
        skipped_limit: updates skipped in a row, for overflow or because they were not finite, that end the run; a
            dynamic loss scale skips about 16 as it begins.
        log: what also gets the rows of metrics.csv: tensorboard (event files, by tensorboardX), summary (MindSpore's).
        init_from: file whose weights a new run begins with, without optimizer, step and place in the data; null for
            the network's initial values. Names may be those of this zoo, of MindSpore's own programs, of torchvision
            or of Hugging Face (models.weights). A run that goes on from a checkpoint does not read it.
        run_dir: folder under which every run gets a new folder of its own.
        resume: auto (go on with the newest unfinished run of this same configuration, else start anew),
            never, or the path of a run folder or checkpoint.
    """

    epochs: int = setting(10, integer(1, limit=10 ** 6))
    amp_level: str = setting("O0", choice("O0", "O1", "O2", "O3", "auto"))
    keep_batchnorm_fp32: bool | None = setting(None, optional(flag(), "the level's own choice"))
    accumulate_steps: int = setting(1, integer(1, limit=10 ** 6))
    sink: bool = setting(False, flag())
    sink_size: int = setting(-1, integer(-1, limit=10 ** 7), "use -1 for a whole epoch")
    eval_every_epochs: int = setting(1, integer(0))
    checkpoint_every_epochs: int = setting(1, integer(0))
    checkpoint_every_steps: int = setting(0, integer(0))
    checkpoint_keep: int = setting(3, integer(1))
    keep_best: bool = setting(False, flag())
    early_stop: EarlyStopConfig = subsection(EarlyStopConfig)
    ema: EmaConfig = subsection(EmaConfig)
    record_gradient_norm: bool = setting(False, flag())
    skipped_limit: int = setting(100, integer(1))
    log: tuple[str, ...] = setting((), _logs(), "use e.g. [tensorboard]")
    init_from: str | None = setting(None, optional(file_path("the path of a file of weights"),
                                                   "the network's initial values"))
    run_dir: str = setting("runs", file_path("the path of a folder"))
    resume: str = setting("auto", file_path("auto, never, or the path of a run folder or checkpoint"))

    def check_together(self) -> None:
        if self.sink_size == 0:
            raise invalid("sink_size", 0, "-1 or an int >= 1", "use -1 for a whole epoch")


@dataclasses.dataclass(frozen=True)
class ParallelConfig(Section):
    """Several devices.

    Attributes:
        device_num: devices the configuration is meant for, one process each.
        curvature: data (every device inverts all factors) or hybrid (each block is inverted by the device that owns
            it, which gives the inverse to all).
        gradients_mean: average gradients over devices (true) or sum them.
        all_reduce_fusion_config: indices of the trainable parameters after which fused gradient reductions
            are cut; null for MindSpore's own cuts.
        check_every: batches between checks that all devices have the same weights and inverses, 0 for none.
    """

    device_num: int = setting(1, integer(1, limit=10 ** 6))
    curvature: str = setting("data", choice("data", "hybrid"))
    gradients_mean: bool = setting(True, flag())
    all_reduce_fusion_config: tuple[int, ...] | None = setting(
        None, optional(ascending(), "MindSpore's own cuts"))
    check_every: int = setting(1000, integer(0))
