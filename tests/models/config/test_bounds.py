"""Texts and values no configuration has: each is refused in one line, with file and line, and soon."""
from __future__ import annotations

import time

import pytest

from models.config import ConfigError, OptimizerConfig, load_config
from models.config.yaml_loader import DEEPEST, LARGEST

NINES = "9" * 4000


def refusal(path, *overrides):
    """The line, less the place it begins with."""
    started = time.process_time()
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides)
    assert time.process_time() - started < 10
    line = str(raised.value)
    assert "\n" not in line and len(line) < 1000
    return line


def written(folder, text):
    path = folder / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return path


def name_of(value):
    return ascii(value)[:40]


def aliases(levels, template):
    """``levels`` anchors, each with nine aliases of the one before."""
    lines = ["a0: &a0 [x, x, x]"]
    return "\n".join(lines + [f"a{i}: &a{i} " + template.format(*[f"*a{i - 1}"] * 9) for i in range(1, levels)])


LIST = "[{}, {}, {}, {}, {}, {}, {}, {}, {}]"
MAPPING = "{{a: {}, b: {}, c: {}, d: {}, e: {}, f: {}, g: {}, h: {}, i: {}}}"
DEEP = f"nested more than {DEEPEST} deep; a config has few levels"
SPELLING = "check indentation, quotes and brackets"


@pytest.mark.parametrize("text, line, expected", [
    ('train:\n  epochs: !!int "abc"', 2, "'abc' is not an int; correct it or leave the tag away"),
    ('train:\n  epochs: !!float "abc"', 2, "'abc' is not a number; correct it or leave the tag away"),
    ('train:\n  sink: !!bool "abc"', 2, "'abc' is not true or false; correct it or leave the tag away"),
    ('train:\n  sink: !!null "abc"', 2, "'abc' is not null; correct it or leave the tag away"),
    ('seed: !!timestamp "abc"', 1, "the tag 'tag:yaml.org,2002:timestamp' on text; leave it away"),
    ('seed: !!binary "@"', 1, "the tag 'tag:yaml.org,2002:binary' on text; leave it away"),
    ("seed: !!int [1]", 1, "the tag 'tag:yaml.org,2002:int' on a list; leave it away"),
    ("seed: !!str {a: 1}", 1, "the tag 'tag:yaml.org,2002:str' on a mapping; leave it away"),
    ("seed: !!set {a}", 1, "the tag 'tag:yaml.org,2002:set' on a mapping; leave it away"),
    ("seed: [{!!merge x: {a: 1}}]", 1, "the tag 'tag:yaml.org,2002:merge' on text; leave it away"),
    ("seed: 1\ntrain: &a {epochs: *a}", 2, "an anchor whose value contains itself; write the value out"),
    ("seed: 1\ntrain: &a [1, [*a]]", 2, "an anchor whose value contains itself; write the value out"),
    ("&a {train: *a}", 1, "an anchor whose value contains itself; write the value out"),
    *((text, 1, DEEP)
      for text in ("[" * 5000, "{a: " * 5000, "- " * 5000, "? " * 5000, "a: " + "[" * 5000 + "]" * 5000)),
    ("".join(f"{' ' * i}a:\n" for i in range(300)), DEEPEST, DEEP),
    ("a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000)), DEEPEST, DEEP),
    (aliases(9, LIST), 6, f"more than {LARGEST} characters once aliases are replaced; use fewer aliases"),
    (aliases(9, MAPPING), 6, f"more than {LARGEST} characters once aliases are replaced; use fewer aliases"),
    (b"seed: 1\ndata: {path: a\0b}\n", 2, "the character U+0000; remove it"),
    (b"seed: 1\n\nimports: \x1b[31m\n", 3, "the character U+001B; remove it"),
    ('seed: "\\UFFFFFFFF"', 1, f"an escape or a directive out of range; {SPELLING}"),
    ("%YAML " + "1" * 5000 + ".1\n---\nseed: 1", 1, f"an escape or a directive out of range; {SPELLING}"),
    ("seed: 1\ntrain: {epochs: " + "9" * 5000 + "}", 2, "an int of 5000 digits; give a shorter one"),
], ids=name_of)
def test_text_of_no_configuration(tmp_path, text, line, expected):
    path = written(tmp_path, text)
    assert refusal(path) == f"{path}:{line}: not valid YAML: {expected}"


def test_plain_tags_and_aliases_stay_what_they_were(tmp_path):
    path = written(tmp_path, "seed: &n !!int '7'\ntrain: {epochs: *n, run_dir: !!str 5, sink: !!bool 'true'}\n"
                             "optimizer: {weight_decay: !!float 1, split_dim: !!null '', split_indices: !!seq [*n]}\n")
    config = load_config(path)
    assert (config.seed, config.train.epochs, config.train.run_dir, config.train.sink) == (7, 7, "5", True)
    assert (config.optimizer.weight_decay, config.optimizer.split_dim) == (1.0, None)
    assert config.optimizer.split_indices == (7,)


@pytest.mark.parametrize("words, expected", [
    (["--seed=" + "[" * 3000], f"--seed: not valid YAML: {DEEP}"),
    (["--train={epochs: &a [*a]}"],
     "--train: not valid YAML: an anchor whose value contains itself; write the value out"),
    (["--seed", "!!int abc"], "--seed: not valid YAML: 'abc' is not an int; correct it or leave the tag away"),
], ids=name_of)
def test_values_of_the_command_line_have_the_same_bounds(words, expected):
    assert refusal(None, *words) == expected


def test_names_with_thousands_of_parts_are_unknown():
    flag = "--train.epochs" + ".x" * 3000
    assert refusal(None, flag, "1") == f"{flag[:500]}... (6014 characters): train.epochs must be a value, not a section"


@pytest.mark.parametrize("text", ["x" * (LARGEST + 1), "# " + "\N{SNOWMAN}" * LARGEST], ids=name_of)
def test_files_of_another_kind_are_not_read_to_their_end(tmp_path, text):
    path = written(tmp_path, text)
    assert refusal(path) in (f"{path}: a config has at most {LARGEST} bytes; give the path of a YAML file",
                             f"{path}: cannot read the config: not UTF-8 text; give the path of a YAML file")
    assert refusal("/dev/zero") == f"/dev/zero: a config has at most {LARGEST} bytes; give the path of a YAML file"


def test_chains_of_extends_are_short(tmp_path):
    for i in range(2000):
        (tmp_path / f"{i}.yaml").write_text(f"seed: {i}\nextends: {i + 1}.yaml\n")
    assert refusal(tmp_path / "0.yaml") == (
        f"{tmp_path}/31.yaml:2: extends='32.yaml'; must be one of at most 31 files that extend one another; merge some")
    (tmp_path / "30.yaml").write_text("seed: 30\n")
    assert load_config(tmp_path / "0.yaml").seed == 0


@pytest.mark.parametrize("name, shown", [
    ("a" * 300, f"'{'a' * 199}... (302 characters)"), ('"a\\0b"', r"'a\x00b'"),
    ('"\\uD800"', r"'\ud800'"), (".", "'.'"), ("link.yaml", "'link.yaml'"), ("/dev/zero", "'/dev/zero'")], ids=name_of)
def test_what_is_extended_must_be_a_file(tmp_path, name, shown):
    (tmp_path / "link.yaml").symlink_to("link.yaml")
    path = written(tmp_path, f"extends: {name}\n")
    assert refusal(path) == f"{path}:1: extends={shown}; must be a file relative to {tmp_path}"


def test_a_message_holds_the_beginning_of_a_long_value(tmp_path):
    (tmp_path / "secrets").write_text("root x 0\n" * 1000)
    path = written(tmp_path, "extends: secrets\n")
    assert refusal(path) == (f"{tmp_path}/secrets:1: a config must be a mapping of sections, got '"
                             + ("root x 0 " * 23)[:199] + "... (9001 characters)")
    path = written(tmp_path, "k" * 900 + ": 1\n")
    assert refusal(path).startswith(f"{path}:1: unknown key {'k' * 200}... (900 characters); known here: seed, ")
    path = written(tmp_path, f"train: {{epochs: {NINES}}}")
    assert refusal(path) == (f"{path}:1: train.epochs={NINES[:200]}... (4000 characters); must be an int >= 1; use at "
                             "most 1000000")


@pytest.mark.parametrize("name", ["lookahead(" + " " * 100000, "lookahead(" + " " * 100000 + ")", "lookahead(thor) ",
                                  "lookahead" + "(" * 50000 + ")" * 50000, " lookahead(thor)", "lookahead()"],
                         ids=name_of)
def test_names_of_optimizers_are_read_in_bounded_time(name):
    started = time.process_time()
    with pytest.raises(ConfigError, match="^name='.*; must be one of thor, thor_robust, kfac, .*, or lookahead"):
        OptimizerConfig(name=name)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("name, kept", [("Lookahead ( RAdam )", "radam"), ("lookahead(\tthor)", "thor")])
def test_lookahead_is_read_as_before(name, kept):
    config = OptimizerConfig(name=name)
    assert (config.name, config.base) == (f"lookahead({kept})", kept)


@pytest.mark.parametrize("match, reason", [
    ("(" * 5000 + ")" * 5000, "too deep or too large"), ("a{99999999999999999999}", "too deep or too large"),
    ("(", "missing ), unterminated subpattern at position 0")], ids=name_of)
def test_expressions_python_cannot_compile_are_refused(match, reason):
    with pytest.raises(ConfigError) as raised:
        OptimizerConfig(groups=[{"match": match, "weight_decay": 0}])
    line = str(raised.value)
    assert line.endswith(f": {reason}") and "must be a list of {match, lr_factor, weight_decay}; correct the " in line


WHOLE = "must be an int >= 1; use at most"


@pytest.mark.parametrize("name, value, expected", [
    ("train.epochs", 10 ** 9, f"{WHOLE} 1000000"),
    ("train.accumulate_steps", 10 ** 9, f"{WHOLE} 1000000"),
    ("train.sink_size", 10 ** 9, "must be an int >= -1; use at most 10000000"),
    ("train.checkpoint_keep", 2 ** 31, f"{WHOLE} 2147483647"),
    ("train.checkpoint_every_steps", 2 ** 31, "must be an int >= 0; use at most 2147483647"),
    ("optimizer.frequency", 2 ** 31, f"{WHOLE} 2147483647"),
    ("optimizer.split_dim", 10 ** 12, "must be an int >= 1, or null for whole factors; use at most 2147483647"),
    ("optimizer.split_indices", "[0, 2147483648]", "must be a non-empty list of ascending ints >= 0, or null for "
     "groups of at most 32 MiB; use at most 2147483647"),
    ("optimizer.lookahead.steps", 10 ** 12, f"{WHOLE} 2147483647"),
    ("optimizer.delay.mean", "1e12", "must be a number >= 0; use at most 1e+06"),
    ("optimizer.delay.longest", 10 ** 9, "must be an int >= 0; use at most 1000"),
    ("optimizer.learning_rate.end_epoch", "1e38",
     "must be a number > 0, or null for the last epoch of training; use at most 1e+09"),
    ("curvature.subsample", 10 ** 12, f"{WHOLE} 2147483647"),
    ("curvature.update.intervals", "[[0, 2147483648]]", "must be a list of pairs [start, steps], starts ascending from "
     "0, steps ints >= 1, or null for every optimizer.frequency steps; use at most 2147483647"),
    ("model.num_classes", 10 ** 9, "must be an int >= 1, or null for the dataset's number of classes; use at most "
     "1000000"),
    ("model.base_width", 10 ** 9, f"{WHOLE} 4096"),
    ("model.bert.layers", 10 ** 9, f"{WHOLE} 1000"),
    ("model.bert.vocab_size", 10 ** 9, f"{WHOLE} 10000000"),
    ("data.batch_size", 10 ** 9, f"{WHOLE} 1000000"),
    ("data.image_size", 10 ** 9, "must be an int >= 1, or null for the dataset's own size; use at most 4096"),
    ("data.workers", 10 ** 12, f"{WHOLE} 2147483647"),
    ("device.device_id", 10 ** 9, "must be an int >= 0; use at most 9999"),
    ("loss_scale.window", 10 ** 12, f"{WHOLE} 2147483647"),
    ("parallel.device_num", 10 ** 9, f"{WHOLE} 1000000"),
    ("train.run_dir", "", "must be the path of a folder; it is empty, use . for the present folder"),
    ("train.resume", "", "must be auto, never, or the path of a run folder or checkpoint; it is empty, use . for the "
     "present folder"),
    ("train.run_dir", "a/" + "b" * 256, "must be the path of a folder; shorten it, no file system takes it"),
    ("data.path", "a/" * 3000, "must be the path of a folder; shorten it, no file system takes it"),
    ("train.run_dir", "a\x1bb", "must be the path of a folder; remove the control characters"),
    ("data.path", "a\0b", "must be the path of a folder; remove the control characters"),
    ("data.path", "\ud800", "must be the path of a folder; remove the characters that are no text"),
    ("imports", "a." * 200 + "b", "must be a list of names of Python modules; use shorter names"),
], ids=name_of)
def test_absurd_sizes_and_paths_are_refused_by_name(name, value, expected):
    line = refusal(None, f"--{name}", str(value))
    assert line.startswith(f"--{name}: {name}=") and line.endswith(f"; {expected}")


def test_workers_beyond_the_cores_and_an_empty_data_path_mean_something():
    config = load_config(None, ["--data.workers", "100000", "--data.path="])
    assert (config.data.workers, config.data.path) == (100000, "")
