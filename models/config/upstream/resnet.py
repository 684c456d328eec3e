"""The flat files of MindSpore's ResNet program (mindspore-ai/models, official/cv/ResNet/config)."""
from __future__ import annotations

from typing import Any

from models.config.errors import ConfigError
from models.config.upstream.common import DROPPED, device, refuse_set, weights_alone
from models.config.upstream.flat import Flat
from models.registry import dataset_names, network_names

DATASETS = {"imagenet2012": "imagenet", "cifar10": "cifar10"}
OPTIMIZERS = {"Thor": "thor", "Momentum": "momentum", "LARS": "lars"}
MODES = {"GRAPH": "graph", "PYNATIVE": "pynative"}
# Keys whose value is the value of a setting.
MOVED = {
    "class_num": "model.num_classes",
    "batch_size": "data.batch_size",
    "train_image_size": "data.image_size",
    "data_path": "data.path",
    "eval_dataset_path": "data.eval_path",
    "epoch_size": "train.epochs",
    "keep_checkpoint_max": "train.checkpoint_keep",
    "eval_interval": "train.eval_every_epochs",
    "resume_ckpt": "train.resume",
    "momentum": "optimizer.momentum",
    "weight_decay": "optimizer.weight_decay",
    "all_reduce_fusion_config": "parallel.all_reduce_fusion_config",
}
OPTIONAL = ("data_path", "eval_dataset_path", "resume_ckpt")  # of which "" means none
RATES = {"lr_init": "optimizer.learning_rate.initial", "lr_decay": "optimizer.learning_rate.decay",
         "lr_end_epoch": "optimizer.learning_rate.end_epoch", "damping_init": "optimizer.damping.initial",
         "damping_decay": "optimizer.damping.decay", "frequency": "optimizer.frequency",
         "split_indices": "optimizer.split_indices"}
OTHERS = {"lr_max", "lr_end", "lr_decay_mode", "warmup_epochs", "lars_coefficient", "lars_epsilon", "loss_scale",
          "use_label_smooth", "label_smooth_factor", "save_checkpoint", "save_checkpoint_epochs", "net_name", "dataset",
          "optimizer", "mode_name", "device_target", "device_num", "device_id", "run_distribute", "eval_image_size"}
KNOWN = {*MOVED, *RATES, *OTHERS}

REASONS = {
    "the held-out images are looked at in every run": ("run_eval", "eval_start_epoch"),
    "the newest checkpoints are kept": ("save_best_ckpt",),
    "a resumed run knows where it was": ("start_epoch", "has_trained_epoch", "has_trained_step", "pretrain_epoch_size"),
    "exporting and predicting are no part of training": (
        "infer_label", "width", "height", "file_name", "file_format", "ckpt_file", "network_dataset", "result_path",
        "label_path", "img_path", "enable_predict_lite_backend", "enable_predict_lite_mindir", "lite_context_config"),
    "images are read without a cache": ("enable_cache", "cache_session_id"),
    "networks here bring their own initial values": ("conv_init", "dense_init"),
    "graphs are those of optimizer and amp_level": ("boost_mode",),
}
HALVED_AT = 39        # epoch at which that program halves THOR's rate, and again one later
SPLIT = {"resnet50": [26, 53]}   # where that program cuts the reductions of factors
WORKERS = 8           # as in the configurations here
PROGRAM = "that program's own choice"


def translate(flat: Flat) -> None:
    """Settle every key of a ResNet file.

    Raises:
        ConfigError: it asks for what is not here.
    """
    target = device(flat, flat.flag("run_distribute", False))
    name = _network(flat)
    _dataset(flat)
    refuse_set(flat, "parameter_server", "there is no parameter server here; several devices train data-parallel")
    refuse_set(flat, "filter_weight", "a head of another width is left out by itself")
    weights_alone(flat, "pre_trained")
    if flat.has("pre_trained"):
        flat.put("model.geometry", "official", "pre_trained", why="weights of that program's network")
    for key, setting in MOVED.items():
        if key not in OPTIONAL or flat.has(key):
            flat.move(key, setting)
    _optimizer(flat, name)
    _loss(flat)
    _checkpoints(flat)
    _precision(flat, target)
    for why, keys in {**DROPPED, **REASONS}.items():
        flat.drop(why, *keys)
    flat.drop("off or empty", *OPTIONAL)
    if target == "GPU" and flat.value("optimizer") == "Thor":
        flat.note("rates and damping published for GPU belong to other factors than those here; see "
                  "configs/resnet/resnet50_imagenet_gpu_8p.yaml")
    flat.drop_rest(KNOWN, "nothing here is set by it")


def _network(flat: Flat) -> str:
    name = flat.value("net_name")
    if name not in network_names():
        raise flat.refused("net_name", f"must be one of {', '.join(network_names())}",
                           "other networks are registered with models.registry")
    flat.put("model.name", name, "net_name")
    if flat.has("mode_name"):
        flat.put("device.mode", _choice(flat, "mode_name", MODES), "mode_name")
    return name


def _dataset(flat: Flat) -> None:
    names = {**{name: name for name in dataset_names()}, **DATASETS}
    flat.put("data.name", _choice(flat, "dataset", names), "dataset")
    flat.put("data.workers", WORKERS, why="as in the configurations here")
    sizes = flat.value("train_image_size"), flat.value("eval_image_size")
    same = "it is train_image_size" if sizes[0] == sizes[1] else "held-out images have data.image_size here"
    flat.drop(same, "eval_image_size")


def _choice(flat: Flat, key: str, names: dict[str, Any]) -> Any:
    value = flat.value(key)
    if not isinstance(value, str) or value not in names:
        raise flat.refused(key, f"must be one of {', '.join(names)}", "choose one of these")
    return names[value]


def _optimizer(flat: Flat, network: str) -> None:
    name = _choice(flat, "optimizer", OPTIMIZERS)
    flat.put("optimizer.name", name, "optimizer")
    if name == "thor":
        _thor(flat, network)
        flat.drop("of optimizers other than Thor", "lr_max", "lr_end", "lr_decay_mode", "warmup_epochs",
                  "lars_coefficient", "lars_epsilon", "lr")
        return
    _falling_rate(flat)
    if name == "lars":
        flat.move("lars_coefficient", "optimizer.lars_coefficient")
        if flat.has("lars_epsilon") and flat.number("lars_epsilon") > 0:
            flat.move("lars_epsilon", "optimizer.epsilon")
        flat.drop("a divisor is never 0; MindSpore's default is added", "lars_epsilon")
    else:
        flat.put("optimizer.decay_filter", "no_bias_norm", why=PROGRAM)
    flat.drop(f"of optimizers other than {flat.value('optimizer')}", *RATES, "lars_coefficient", "lars_epsilon")


def _thor(flat: Flat, network: str) -> None:
    flat.put("optimizer.learning_rate.schedule", "thor", "lr_init", why=PROGRAM)
    flat.put("optimizer.damping.schedule", "thor", "damping_init", why=PROGRAM)
    for key, setting in RATES.items():
        if key not in ("split_indices", "frequency"):
            flat.number(key)
        flat.move(key, setting)
    flat.put("optimizer.learning_rate.decay_epochs", HALVED_AT, why=PROGRAM)
    if "split_indices" not in flat.given and network in SPLIT:
        flat.put("optimizer.split_indices", SPLIT[network], why=PROGRAM)


def _falling_rate(flat: Flat) -> None:
    """The rates of Momentum and LARS, from which the two that are not polynomials are refused."""
    mode = flat.value("lr_decay_mode")
    if mode not in ("linear", "poly"):
        raise flat.refused("lr_decay_mode", "must be linear or poly", "the other rates of that program are not here; "
                           "choose one of these, or write optimizer.learning_rate in a configuration of this zoo")
    rate = "optimizer.learning_rate"
    flat.put(f"{rate}.schedule", "polynomial", "lr_decay_mode")
    flat.put(f"{rate}.power", 1.0 if mode == "linear" else 2.0, "lr_decay_mode")
    flat.put(f"{rate}.initial", flat.number("lr_max"), "lr_max")
    flat.move("warmup_epochs", f"{rate}.warmup_epochs")
    if mode == "linear":
        flat.move("lr_end", f"{rate}.final")
    flat.drop("that program's poly ends at 0 whatever it says", "lr_end")
    flat.drop("a warm-up begins at 0", "lr_init")


def _loss(flat: Flat) -> None:
    smooth = flat.flag("use_label_smooth", False)
    flat.put("loss.label_smoothing", flat.value("label_smooth_factor", 0.1) if smooth else 0.0,
             "label_smooth_factor", "use_label_smooth")
    flat.put("loss_scale.policy", "fixed", why=PROGRAM)
    flat.move("loss_scale", "loss_scale.value")


def _checkpoints(flat: Flat) -> None:
    if flat.flag("save_checkpoint", True):
        flat.move("save_checkpoint_epochs", "train.checkpoint_every_epochs")
        flat.drop("it is how often that says it", "save_checkpoint")
    else:
        flat.put("train.checkpoint_every_epochs", 0, "save_checkpoint", "save_checkpoint_epochs")


def _precision(flat: Flat, target: str) -> None:
    """Sinks and float16, which that program sets itself; on GPU as in the configurations here."""
    if target == "CPU":
        return
    flat.put("train.sink", True, why=PROGRAM)
    why = PROGRAM if target == "Ascend" else "as in configs/resnet/resnet50_imagenet_gpu_8p.yaml, which says why"
    flat.put("train.amp_level", "O3" if target == "Ascend" else "O2", why=why)
    flat.put("train.keep_batchnorm_fp32", target == "GPU", why=why)


def check_kind(flat: Flat) -> None:
    """ConfigError where the file is of neither program."""
    if "bert_net_cfg" in flat.given:
        raise ConfigError("is of BERT's fine-tuning; must be a file of its pretraining, which has bert_network, or of "
                          "ResNet; write a configuration of this zoo for it", where=flat.where)
    if "net_name" not in flat.given:
        raise ConfigError("names no network; a flat file of MindSpore's ResNet program has net_name, one of its BERT "
                          "program bert_network; add it, or write a configuration of this zoo", where=flat.where)
