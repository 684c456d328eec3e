"""Every setting is read by something in its configuration, or refused by name; what a new choice puts aside."""
from __future__ import annotations

import dataclasses

import pytest

from models.config import Config, ConfigError, ParallelConfig, changed, config_tree, load_config
from models.config.companions import DELAYED, OPTIMIZERS, SECOND_ORDER
from models.config.readers import OPTIMIZER_READERS, default, rules
from models.registry import register_network, unregister_network
from tests.helpers import CONFIGS

# Settings that every configuration reads, whatever is chosen: all that no rule names.
ALWAYS_READ = {
    "seed", "imports", "device.target", "device.mode", "model.name", "data.name", "data.batch_size",
    "data.eval_batch_size", "data.workers", "optimizer.name", "optimizer.learning_rate.schedule",
    "optimizer.learning_rate.initial", "optimizer.learning_rate.warmup_epochs", "optimizer.weight_decay",
    "optimizer.clip_norm", "loss_scale.policy", "train.epochs", "train.amp_level", "train.accumulate_steps",
    "train.sink", "train.eval_every_epochs", "train.checkpoint_every_epochs", "train.checkpoint_every_steps",
    "train.checkpoint_keep", "train.skipped_limit", "train.record_gradient_norm", "train.run_dir", "train.resume",
    "train.init_from", "train.ema.decay", "train.log", "parallel.device_num", "parallel.gradients_mean",
    "parallel.all_reduce_fusion_config", "parallel.check_every"}
FASHION = CONFIGS / "lenet" / "lenet5_fashion_mnist.yaml"
# For each setting: a value that is not its default, words under which it is read, words under which it is not.
MOMENTUM, ADAM = ["--optimizer.name=momentum"], ["--optimizer.name=adam"]
TRACE = ["--curvature.update.policy=trace"]
TEXT = ["--model.name=bert", "--data.name=text"]
NEXT = ["--model.name=gpt", "--data.name=text"]
LENET = ["--model.name=lenet5", "--data.name=mnist"]
POWER = ["--optimizer.learning_rate.schedule=polynomial"]
DAMPED = ["--optimizer.damping.schedule=polynomial"]
DYNAMIC = ["--loss_scale.policy=dynamic"]
CASES = {
    "device.device_id": (1, ["--device.target=GPU"], []),
    "device.convolution_isa": ("AVX2", [], ["--device.target=GPU"]),
    "model.num_classes": (12, [], TEXT), "model.in_channels": (1, [], TEXT),
    "model.stem": ("small", [], LENET), "model.base_width": (16, [], LENET), "model.zero_gamma": ("false", [], LENET),
    "model.geometry": ("official", [], LENET),
    "model.bert.relative_table": ("learned", [*TEXT, "--model.bert.relative_positions=true"], TEXT),
    "model.bert.max_distance": (16, [*TEXT, "--model.bert.relative_positions=true"], TEXT),
    "data.path": ("x", ["--data.name=mnist"], []), "data.eval_path": ("x", TEXT, []),
    "data.image_size": (16, [], TEXT), "data.augment": ("false", [], TEXT), "loss.label_smoothing": (0.1, [], TEXT),
    "optimizer.learning_rate.final": (0.01, POWER, ["--optimizer.learning_rate.schedule=thor"]),
    "optimizer.learning_rate.end_epoch": (9, POWER, ["--optimizer.learning_rate.schedule=constant"]),
    "optimizer.learning_rate.decay": (2, ["--optimizer.learning_rate.schedule=thor"], POWER),
    "optimizer.learning_rate.decay_epochs": (2, ["--optimizer.learning_rate.schedule=thor"], []),
    "optimizer.learning_rate.power": (2, POWER, []),
    "optimizer.momentum": (0.5, MOMENTUM, ADAM), "optimizer.nesterov": ("true", ADAM, ["--optimizer.name=adamw"]),
    "optimizer.decay_filter": ("no_bias_norm", ADAM, ["--optimizer.name=lars"]),
    "optimizer.groups": ("[{match: fc, lr_factor: 2}]", ["--optimizer.name=ranger"], ["--optimizer.name=lamb"]),
    "optimizer.beta1": (0.5, ["--optimizer.name=ranger"], []), "optimizer.beta2": (0.5, ADAM, MOMENTUM),
    "optimizer.epsilon": (0.5, ["--optimizer.name=lars"], MOMENTUM),
    "optimizer.lars_coefficient": (0.5, ["--optimizer.name=lars"], []),
    "optimizer.damping.schedule": ("thor", [], ADAM), "optimizer.damping.initial": (0.5, [], ADAM),
    "optimizer.damping.decay": (0.1, ["--optimizer.damping.schedule=thor"], []),
    "optimizer.damping.final": (0.1, DAMPED, []), "optimizer.damping.end_epoch": (9, DAMPED, []),
    "optimizer.damping.power": (3, DAMPED, []),
    "optimizer.clip": ("true", ["--optimizer.name=lookahead(thor)"], ["--optimizer.name=lookahead(adam)"]),
    "optimizer.frequency": (7, ["--optimizer.name=spngd"], ["--optimizer.name=lamb"]),
    "optimizer.split_indices": ("[1]", [], ADAM),
    "optimizer.split_dim": (64, [], ADAM), "optimizer.running_average": (0.5, [], ADAM),
    "optimizer.pi_correction": ("true", [], ADAM), "optimizer.fold_bias": ("true", [], ADAM),
    "optimizer.batchnorm_blocks": ("true", [], ADAM),
    "optimizer.relative_damping": ("true", [], ADAM), "optimizer.rule": ("adamw", [], ADAM),
    "optimizer.precision": ("bfloat16", [], ADAM),
    "optimizer.graft": ("sgd", [], ADAM), "optimizer.kl_clip": (0.001, [], ADAM),
    "optimizer.lookahead.steps": (3, ["--optimizer.name=ranger"], ["--optimizer.name=radam"]),
    "optimizer.lookahead.alpha": (0.3, ["--optimizer.name=lookahead(kfac)"], ["--optimizer.name=kfac"]),
    "optimizer.compensation.strength": (1, ["--optimizer.name=dcasgd"], MOMENTUM),
    "optimizer.compensation.adaptive": ("true", ["--optimizer.name=dcasgd"], MOMENTUM),
    "optimizer.compensation.decay": (0.5, ["--optimizer.name=dcasgd", "--optimizer.compensation.adaptive=true"],
                                     ["--optimizer.name=dcasgd"]),
    "optimizer.delay.distribution": ("poisson", ["--optimizer.name=lookahead(dcasgd)"], MOMENTUM),
    "optimizer.delay.mean": (2, ["--optimizer.name=dcasgd"], MOMENTUM),
    "optimizer.delay.longest": (2, ["--optimizer.name=dcasgd"], MOMENTUM),
    "curvature.update.policy": ("trace", [], ADAM),
    "curvature.update.intervals": ("[[0, 5]]", TRACE, []),
    "curvature.update.unit": ("step", [*TRACE, "--curvature.update.intervals=[[0, 5]]"], TRACE),
    "curvature.update.w1": (0.5, TRACE, []), "curvature.update.w2": (0.005, TRACE, []),
    "curvature.update.alpha": (0.5, ["--curvature.update.policy=frobenius"], TRACE),
    "curvature.subsample": (2, [], ADAM), "curvature.record": ("false", [], ADAM),
    "loss_scale.value": (2, [], DYNAMIC), "loss_scale.init": (2, DYNAMIC, []), "loss_scale.factor": (4, DYNAMIC, []),
    "loss_scale.window": (4, DYNAMIC, []),
    "train.keep_batchnorm_fp32": ("true", ["--train.amp_level=O3"], ["--train.amp_level=O1"]),
    "train.keep_best": ("true", [], ["--train.eval_every_epochs=0"]),
    "train.early_stop.patience": (2, [], ["--train.eval_every_epochs=0"]),
    "train.early_stop.min_delta": (0.1, ["--train.early_stop.patience=1"], []),
    "train.sink_size": (7, ["--train.sink=true"], []),
    "parallel.curvature": ("hybrid", [], ADAM),
    **{f"model.bert.{name}": (value, TEXT, []) for name, value in (
        ("vocab_size", 99), ("hidden_size", 96), ("layers", 3), ("heads", 6), ("intermediate_size", 9),
        ("max_positions", 9), ("token_types", 3), ("activation", "fast_gelu"), ("dropout", 0.3),
        ("attention_dropout", 0.3), ("dropout_seed", 3), ("initializer_range", 0.5), ("layer_norm_epsilon", 0.5),
        ("relative_positions", "true"))},
    **{f"model.gpt.{name}": (value, NEXT, TEXT) for name, value in (
        ("vocab_size", 99), ("hidden_size", 96), ("layers", 3), ("heads", 6), ("intermediate_size", 9),
        ("max_positions", 9), ("activation", "fast_gelu"), ("dropout", 0.3), ("attention_dropout", 0.3),
        ("dropout_seed", 3), ("initializer_range", 0.5), ("layer_norm_epsilon", 0.5), ("fused_qkv", "false"))},
}


def names_of(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from names_of(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def value_of(config, setting):
    for part in setting.split("."):
        config = getattr(config, part)
    return config


def refusal(words, path=None):
    with pytest.raises(ConfigError) as raised:
        load_config(path, words)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_setting_is_read_always_or_has_a_rule():
    """A new setting has to be entered in one of the two."""
    assert set(names_of(config_tree(Config()))) == ALWAYS_READ | set(CASES)
    assert not ALWAYS_READ & set(CASES)


@pytest.mark.parametrize("setting", CASES)
def test_a_setting_is_taken_where_it_is_read_and_refused_where_it_is_not(setting):
    value, readers, others = CASES[setting]
    word = f"--{setting}={value}"
    config = load_config(None, [*readers, word])
    assert value_of(config, setting) != default(Config, setting, config.optimizer.name)
    message = refusal([*others, word])
    kept = value_of(config, setting)
    assert message.startswith(f"--{setting}: {setting}={kept!r}; must be left out with ")
    assert "; only " in message and message.endswith(" read it")


@pytest.mark.parametrize("words, expected", [
    (["--optimizer.name=momentum", "--optimizer.frequency=7"], "--optimizer.frequency: optimizer.frequency=7; must be "
     "left out with optimizer.name=momentum; only thor, thor_robust, kfac, spngd, shampoo and soap read it"),
    (["--optimizer.name=lookahead(radam)", "--optimizer.clip=true"], "--optimizer.clip: optimizer.clip=True; must be "
     "left out with optimizer.name=lookahead(radam); only thor, thor_robust, kfac and spngd read it"),
    (["--curvature.update.intervals=[[0, 5]]"], "--curvature.update.intervals: curvature.update.intervals=((0, 5),); "
     "must be left out with curvature.update.policy=fixed; only growing, trace and frobenius read it"),
    (["--optimizer.frequency=7", "--curvature.update={policy: growing, intervals: [[0, 5]]}"],
     "--optimizer.frequency: optimizer.frequency=7; must be left out with curvature.update.intervals=((0, 5),); only "
     "policies without intervals read it"),
    (["--model.name=convnet3", "--model.base_width=32"], "--model.base_width: model.base_width=32; must be left out "
     "with model.name=convnet3; only resnet18, resnet34, resnet50, resnet101 and resnet152 read it"),
    ([*TEXT, "--loss.label_smoothing=0.1"], "--loss.label_smoothing: loss.label_smoothing=0.1; must be left out with "
     "model.name=bert; only networks that read images read it"),
    (["--data.path=/data"], "--data.path: data.path='/data'; must be left out with data.name=digits; only datasets "
     "with files read it"),
])
def test_refusals_in_full(words, expected):
    assert refusal(words) == expected


@pytest.mark.parametrize("name", [*OPTIMIZERS, "lookahead(momentum)", "lookahead(thor)"])
def test_what_a_name_brings_is_read_by_it(name):
    """Also a dump, which gives every setting, is taken."""
    config = load_config(None, [f"--optimizer.name={name}"])
    assert changed(config, {}) == config


def test_the_table_names_known_optimizers():
    for setting, names in OPTIMIZER_READERS.items():
        assert set(names) <= set(OPTIMIZERS) and names, setting
    assert set(SECOND_ORDER) | set(DELAYED) <= set(OPTIMIZERS)
    known = set(names_of(config_tree(Config())))
    for rule in rules():
        assert set(rule.by) <= known
        assert all(any(name == one or name.startswith(f"{one}.") for name in known) for one in rule.settings)


def test_a_file_that_chooses_anew_puts_aside_what_the_lower_one_gave(tmp_path):
    (tmp_path / "thor.yaml").write_text("optimizer: {name: thor, frequency: 7, clip: true, weight_decay: 0.1}\n"
                                        "curvature: {update: {policy: trace, w1: 0.2}}\n")
    (tmp_path / "own.yaml").write_text("extends: thor.yaml\noptimizer: {name: momentum}\n")
    config = load_config(tmp_path / "own.yaml")
    assert config == load_config(None, ["--optimizer.name=momentum", "--optimizer.weight_decay=0.1"])
    assert load_config(tmp_path / "thor.yaml", ["--optimizer.name", "momentum"]) == config
    back = load_config(tmp_path / "own.yaml", ["--optimizer.name", "thor"])
    assert back == load_config(tmp_path / "thor.yaml")
    fixed = load_config(tmp_path / "thor.yaml", ["--curvature.update.policy=fixed"])
    assert (fixed.curvature.update.w1, fixed.optimizer.frequency) == (0.01, 7)


def test_an_optimizer_chosen_anew_brings_its_own_settings():
    """What the file says for the earlier one is put aside; what stands beside the name, or over it, holds."""
    written = load_config(FASHION).optimizer
    assert (written.frequency, written.damping.initial, written.weight_decay) == (50, 0.1, 5e-4)
    robust = load_config(FASHION, ["--optimizer.name", "thor_robust"]).optimizer
    assert (robust.rule, robust.relative_damping, robust.frequency) == ("normalized", True, 10)
    assert (robust.damping.schedule, robust.damping.initial, robust.weight_decay) == ("constant", 0.3, 0.02)
    assert (robust.learning_rate.schedule, robust.learning_rate.initial) == ("cosine", 0.01)
    bert = load_config(CONFIGS / "bert" / "bert_small.yaml", ["--optimizer.name", "thor_robust"]).optimizer
    assert (bert.clip, bert.damping.schedule, bert.learning_rate.warmup_epochs) == (False, "constant", 0.5)
    words = ["--optimizer.name", "thor_robust", "--optimizer.frequency", "7", "--optimizer.damping.initial", "0.5"]
    assert load_config(FASHION, words).optimizer.frequency == 7
    assert load_config(FASHION, words).optimizer.damping.initial == 0.5
    assert load_config(FASHION, ["--optimizer.name", "thor"]).optimizer == written


def test_what_stands_beside_the_choice_or_over_it_is_not_put_aside(tmp_path):
    (tmp_path / "both.yaml").write_text("optimizer:\n  name: adam\n  frequency: 7\n")
    expected = ("optimizer.frequency=7; must be left out with optimizer.name=adam; only thor, thor_robust, kfac, "
                "spngd, shampoo and soap read it")
    assert refusal([], tmp_path / "both.yaml") == f"{tmp_path}/both.yaml:3: {expected}"
    (tmp_path / "over.yaml").write_text("extends: adam.yaml\noptimizer: {frequency: 7}\n")
    (tmp_path / "adam.yaml").write_text("optimizer: {name: adam}\n")
    assert refusal([], tmp_path / "over.yaml") == f"{tmp_path}/over.yaml:2: {expected}"


def test_words_beneath_the_others_count_as_the_file():
    words = ["--curvature.record=false", "--optimizer.weight_decay=0.1"]
    config = load_config(None, ["--optimizer.name=adam"], words)
    assert (config.curvature.record, config.optimizer.weight_decay) == (True, 0.1)
    assert not load_config(None, ["--optimizer.name=kfac"], words).curvature.record


def test_changed_puts_aside_and_refuses_as_the_command_line_does():
    config = load_config(None, ["--parallel.curvature=hybrid", "--optimizer.split_indices=[2]"])
    adam = changed(config, {"optimizer.name": "adam"})
    assert (adam.parallel, adam.optimizer.split_indices) == (ParallelConfig(), None)
    assert changed(config, {"optimizer.clip": True}).optimizer == dataclasses.replace(config.optimizer, clip=True)
    with pytest.raises(ConfigError, match="optimizer.clip=True; must be left out with optimizer.name=adam"):
        changed(config, {"optimizer.name": "adam", "optimizer.clip": True})


def test_sections_put_together_in_python_are_checked_too():
    config = Config()
    adam = dataclasses.replace(config.optimizer, name="adam")
    assert dataclasses.replace(config, optimizer=adam).optimizer.name == "adam"
    with pytest.raises(ConfigError, match="^optimizer.frequency=9; must be left out with optimizer.name=adam; "):
        dataclasses.replace(config, optimizer=dataclasses.replace(adam, frequency=9))


def test_a_network_of_ones_own_says_what_it_reads():
    register_network("own", settings=("base_width",))(lambda model, data: None)
    try:
        assert load_config(None, ["--model.name=own", "--model.base_width=8"]).model.base_width == 8
        assert load_config(None, ["--model.name=own"]).model.stem is None
        assert refusal(["--model.name=own", "--model.stem=small"]).endswith("resnet101 and resnet152 read it")
    finally:
        unregister_network("own")
