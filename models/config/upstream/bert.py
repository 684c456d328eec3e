"""The flat files of MindSpore's BERT program (mindspore-ai/models, official/nlp/bert/pretrain_config*.yaml)."""
from __future__ import annotations

from typing import Any

from models.config.upstream.common import DROPPED, device, section_of, weights_alone
from models.config.upstream.flat import Flat

NETWORKS = ("base", "nezha", "large", "large_boost")
SECTIONS = {"Thor": "thor", "Lamb": "lamb", "AdamWeightDecay": "adamw", "Momentum": "momentum"}
SIZES = {
    "vocab_size": "vocab_size", "hidden_size": "hidden_size", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "intermediate_size", "hidden_act": "activation",
    "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_positions", "type_vocab_size": "token_types",
    "initializer_range": "initializer_range", "use_relative_positions": "relative_positions",
}
NO_DECAY = {"layernorm", "bias"}
MOVED = {"save_checkpoint_num": "train.checkpoint_keep", "data_dir": "data.path", "eval_data_dir": "data.eval_path"}
SCALES = {"loss_scale_value": "loss_scale.init", "scale_factor": "loss_scale.factor",
          "scale_window": "loss_scale.window"}
KNOWN = {*MOVED, *SCALES, *SECTIONS, "bert_network", "optimizer", "accumulation_steps", "train_steps",
         "data_sink_steps", "batch_size", "epoch_size", "distribute", "device_target", "device_num", "device_id",
         "enable_lossscale", "enable_save_ckpt", "save_checkpoint_steps",
         *(f"{name}_{part}" for name in NETWORKS for part in ("batch_size", "net_cfg"))}

REASONS = {
    "train_steps says how long a run is": ("epoch_size",),
    "the chosen network has its own": ("batch_size",),
    "of networks that are not chosen": tuple(f"{name}_{part}" for name in NETWORKS
                                             for part in ("batch_size", "net_cfg")),
    "of optimizers that are not chosen": tuple(SECTIONS),
    "the files say what they are": ("schema_dir", "schema_file", "dataset_format", "num_samples"),
    "training data are always shuffled": ("do_shuffle",),
    "a device is always fed by sinks": ("enable_data_sink",),
    "gradients are reduced once a step": ("allreduce_post_accumulation",),
    "optimizer.clip_norm limits the norm of all gradients": ("enable_global_norm",),
    "lengths of sequences are those of the records": ("bucket_list",),
    "held-out records are looked at as often as train.eval_every_epochs says": (
        "train_with_eval", "eval_ckpt", "eval_samples"),
    "it is what this program does": ("description",),
    "folders are those of data.path and of the run": ("data_path",),
}
EPSILON = 1e-7        # of LayerNorm in that program
DISTANCE = 16         # at which its relative positions end
WORKERS = 8           # as in the configurations here
PROGRAM = "that program's own choice"
SPLIT = {"base": [28, 55, 77], "large": [38, 93, 149], "large_boost": [38, 93, 149]}
# Reductions of gradients by layers and relative positions; of these one less each than there, because the position
# table which that program keeps beside relative positions, unused, is not here.
FUSION = {(12, False): [28, 55, 82, 109, 136, 163, 190, 205], (12, True): [28, 57, 86, 115, 144, 173, 202, 216],
          (24, False): [38, 93, 148, 203, 258, 313, 368, 397], (24, True): [29, 89, 149, 209, 269, 329, 389, 420]}


def translate(flat: Flat) -> None:
    """Settle every key of a file of BERT's pretraining.

    Raises:
        ConfigError: it asks for what is not here.
    """
    distributed = flat.flag("distribute", False)
    target = device(flat, distributed)
    name = flat.value("bert_network")
    if name not in NETWORKS:
        raise flat.refused("bert_network", f"must be one of {', '.join(NETWORKS)}", "choose one of these")
    flat.put("model.name", "bert", "bert_network")
    flat.put("data.name", "text", "bert_network")
    flat.put("data.workers", WORKERS, why="as in the configurations here")
    compute = _network(flat, name, distributed)
    weights_alone(flat, "load_checkpoint_path")
    for key, setting in MOVED.items():
        if flat.has(key):
            flat.move(key, setting)
    _optimizer(flat, name, _length(flat))
    _checkpoints(flat)
    half = compute == "mstype.float16" and target != "CPU" and (target != "GPU" or name == "base")
    flat.put("train.amp_level", "O2" if half else "O0", why=f"compute_type={compute} on {target}")
    for why, keys in {**DROPPED, **REASONS}.items():
        flat.drop(why, *keys)
    flat.drop("off or empty", *MOVED)
    flat.drop_rest(KNOWN, "nothing here is set by it")


def _network(flat: Flat, name: str, distributed: bool) -> str:
    """Settle the sizes of the chosen network; its compute_type."""
    sizes = section_of(flat, f"{name}_net_cfg", "the sizes of the network")
    for key, setting in SIZES.items():
        sizes.move(key, f"model.bert.{setting}")
    relative = sizes.flag("use_relative_positions", False)
    sizes.put("model.bert.layer_norm_epsilon", EPSILON, why=PROGRAM)
    if relative:
        sizes.put("model.bert.relative_table", "learned", why=PROGRAM)
        sizes.put("model.bert.max_distance", DISTANCE, why=PROGRAM)
    sizes.drop("lengths of sequences are those of the records", "seq_length")
    sizes.drop("it becomes train.amp_level", "compute_type")
    sizes.drop("weights are float32", "dtype")
    sizes.drop_rest(set(SIZES), "nothing here is set by it", f"{name}_net_cfg.")
    flat.take_over(f"{name}_net_cfg", sizes)
    batch = f"{name}_batch_size" if f"{name}_batch_size" in flat.given else "batch_size"
    flat.move(batch, "data.batch_size")
    fusion = [cuts for known, cuts in FUSION.items() if known == (sizes.value("num_hidden_layers"), relative)]
    if distributed and fusion:
        flat.put("parallel.all_reduce_fusion_config", fusion[0], why=PROGRAM)
    return sizes.value("compute_type", "mstype.float32")


def _length(flat: Flat) -> int:
    """Settle how long a run is; optimizer steps of what counts as an epoch."""
    sink = flat.count("data_sink_steps", 1, "they count as an epoch here")
    micro = flat.count("accumulation_steps", 1, "1 is no accumulation")
    steps = flat.count("train_steps", sink, "rates and damping are counted in steps; give epoch_size times the steps "
                       "of a pass over your data")
    flat.put("train.sink", True, why=PROGRAM)
    flat.put("train.accumulate_steps", micro, "accumulation_steps")
    flat.put("train.sink_size", sink * micro, "data_sink_steps", "accumulation_steps")  # batches
    flat.put("train.epochs", steps // sink, "train_steps")
    return sink


def _optimizer(flat: Flat, network: str, sink: int) -> None:
    key = flat.value("optimizer")
    if not isinstance(key, str) or key not in SECTIONS:
        raise flat.refused("optimizer", f"must be one of {', '.join(SECTIONS)}", "choose one of these")
    flat.put("optimizer.name", SECTIONS[key], "optimizer")
    chosen = section_of(flat, key, "the settings of the optimizer")
    (_thor if key == "Thor" else _first_order)(chosen, sink)
    scaled = flat.flag("enable_lossscale", key != "Thor")
    if scaled:
        flat.put("loss_scale.policy", "dynamic", "enable_lossscale")
        for name, setting in SCALES.items():
            flat.move(name, setting)
        chosen.drop("enable_lossscale chooses a dynamic scale", "loss_scale")
    else:
        flat.put("loss_scale.policy", "fixed", "enable_lossscale")
        flat.drop("enable_lossscale chooses a fixed scale", *SCALES)
        chosen.move("loss_scale", "loss_scale.value")
    chosen.drop_rest(set(), "nothing here is set by it", f"{key}.")
    flat.take_over(key, chosen)
    if key == "Thor" and network in SPLIT:
        flat.put("optimizer.split_indices", SPLIT[network], why=PROGRAM)


def _thor(section: Flat, sink: int) -> None:
    for key, setting in (("lr", "learning_rate"), ("damping", "damping")):
        section.put(f"optimizer.{setting}.schedule", "polynomial", f"{key}_max", why=PROGRAM)
        for name, part in (("max", "initial"), ("min", "final"), ("power", "power")):
            section.move(f"{key}_{name}", f"optimizer.{setting}.{part}")
        section.put(f"optimizer.{setting}.end_epoch", _epochs(section, f"{key}_total_steps", sink),
                    f"{key}_total_steps")
    for name in ("momentum", "weight_decay", "frequency"):
        section.move(name, f"optimizer.{name}")
    section.put("optimizer.decay_filter", "no_bias_norm", why=PROGRAM)
    section.put("optimizer.clip", True, why=PROGRAM)


def _first_order(section: Flat, sink: int) -> None:
    rate = "optimizer.learning_rate"
    falls = "power" in section.given
    section.put(f"{rate}.schedule", "polynomial" if falls else "constant", "power", why="" if falls else PROGRAM)
    section.move("learning_rate", f"{rate}.initial")
    if falls:
        section.move("end_learning_rate", f"{rate}.final")
        section.move("power", f"{rate}.power")
    if "warmup_steps" in section.given:
        section.put(f"{rate}.warmup_epochs", _epochs(section, "warmup_steps", sink), "warmup_steps")
    for key, name in (("weight_decay", "weight_decay"), ("eps", "epsilon"), ("beta1", "beta1"), ("beta2", "beta2"),
                      ("momentum", "momentum")):
        section.move(key, f"optimizer.{name}")
    if "decay_filter" in section.given:
        _decay_filter(section)


def _decay_filter(section: Flat) -> None:
    names: Any = section.value("decay_filter")
    if not isinstance(names, list) or set(map(str, names)) != NO_DECAY:
        raise section.refused("decay_filter", "must be ['layernorm', 'bias']", "other filters are optimizer.groups of "
                              "a configuration of this zoo")
    section.put("optimizer.decay_filter", "no_bias_norm", "decay_filter")


def _epochs(section: Flat, key: str, sink: int) -> float:
    """Steps as epochs of ``sink`` steps."""
    steps = section.number(key)
    return steps // sink if steps % sink == 0 else steps / sink


def _checkpoints(flat: Flat) -> None:
    saves = flat.flag("enable_save_ckpt", True)
    flat.put("train.checkpoint_every_steps", flat.value("save_checkpoint_steps", 1000) if saves else 0,
             "save_checkpoint_steps", "enable_save_ckpt")
    flat.put("train.checkpoint_every_epochs", 0, why="that program saves by steps")
