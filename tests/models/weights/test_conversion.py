"""Round trips are bit-equal; names of older files; what cannot be converted is one line that names parameters."""
from __future__ import annotations

import dataclasses
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from safetensors.numpy import load_file, save_file

from models import checkpoint
from models.config import load_config
from models.convert_checkpoint import main
from models.registry import create_network
from models.session import create_session
from models.weights.files import read_weights
from models.weights.scheme import Scheme
from tests.helpers import CONFIGS, DIGITS
from tests.helpers.bert_reference import SMALL
from tests.helpers.foreign_networks import HUGGING_FACE, MINDSPORE_BERT, TORCHVISION, bert_weights, resnet_weights

pytestmark = pytest.mark.usefixtures("pynative")
NARROW = ["--config", str(CONFIGS / "resnet/resnet18_cifar10.yaml"), "--model.stem=imagenet", "--model.base_width=4"]
BERT = str(CONFIGS / "bert/bert_small.yaml")
SIZES = [f"--model.bert.{name}={value}" for name, value in dataclasses.asdict(dataclasses.replace(SMALL, dropout=0.1))
         .items() if name in ("vocab_size", "hidden_size", "layers", "heads", "intermediate_size", "max_positions",
                              "dropout", "attention_dropout", "relative_positions")]
RELATIVE = ["--model.bert.relative_positions=true", "--model.bert.relative_table=learned",
            "--model.bert.max_distance=3"]


def convert(words, first, second, source, target):
    return main([*words, "--from", first, "--to", second, str(source), str(target)])


def refusal(capsys, *arguments):
    """The line of a conversion that is refused."""
    assert convert(*arguments) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err.removeprefix("error: ").rstrip("\n")


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []


def random_network(path, words):
    """A checkpoint of a network of random values, and these values."""
    config = load_config(path, words)
    network, random = create_network(config.model, config.data), np.random.default_rng(2)
    for parameter in network.get_parameters():
        if parameter.dtype == ms.float32:
            parameter.set_data(Tensor(random.normal(size=parameter.shape).astype(np.float32)))
    ms.save_checkpoint(network, "own.ckpt")
    return {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}


def read(path):
    return {name: value.asnumpy() for name, value in ms.load_checkpoint(str(path)).items()}


@pytest.mark.parametrize("path, words, forms", [
    (NARROW[1], [*NARROW[2:], "--model.name=resnet34"], ("torchvision", "mindspore")),
    (NARROW[1], [*NARROW[2:], "--model.geometry=official"], ("torchvision", "mindspore")),
    (BERT, SIZES, ("huggingface", "mindspore")), (BERT, [*SIZES, *RELATIVE], ("mindspore",))],
    ids=["resnet", "official", "bert", "nezha"])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_there_and_back_is_the_same_file(path, words, forms, suffix):
    expected, last, base = random_network(path, words), "own.ckpt", ["--config", path, *words]
    for before, after in zip(("zoo", *forms), (*forms, "zoo")):
        assert convert(base, before, after, last, f"{after}.{suffix}") == 0
        last = f"{after}.{suffix}"
    assert_equal(read(last) if suffix == "ckpt" else load_file(last), expected)


def test_an_optimizers_state_is_left_out_and_weights_are_the_slow_ones():
    words = ["--model.base_width=4", "--data.batch_size=400", "--device.mode=pynative", "--optimizer.name"]
    for name in ("thor", "lookahead(adam)"):
        session = create_session(load_config(DIGITS, [*words, name]))
        for parameter in session.step.get_parameters():
            if parameter.name.startswith("slow."):
                parameter.set_data(Tensor(parameter.asnumpy() + 1))
        checkpoint.save(session, checkpoint.Path("checkpoints"), 0)
        base = ["--config", str(DIGITS), "--model.base_width=4"]
        assert convert(base, "zoo", "zoo", "checkpoints/step-000000.ckpt", f"{name}.safetensors") == 0
        found, own = load_file(f"{name}.safetensors"), {p.name: p for p in session.network.get_parameters()}
        assert found.keys() == own.keys()
        moved = {n: found[n] - p.asnumpy() for n, p in own.items() if p.requires_grad}
        assert all(np.allclose(step, name != "thor") for step in moved.values())


def test_names_of_older_files_are_known():
    config = dataclasses.replace(SMALL, layer_norm_epsilon=1e-12)
    state = bert_weights(config, HUGGING_FACE)
    older = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
             for name, array in state.items() if name != "cls.predictions.bias"}
    older["cls.predictions.decoder.bias"] = state["cls.predictions.bias"]
    older["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"]
    save_file(state, "now.safetensors")
    save_file(older, "then.safetensors")
    state = bert_weights(config, MINDSPORE_BERT)
    place = "bert.bert.bert_embedding_postprocessor"
    renamed = {f"{place}.token_type_embedding.embedding_table": f"{place}.embedding_table",
               f"{place}.full_position_embedding.embedding_table": f"{place}.full_position_embeddings"}
    save_file(state, "now_ms.safetensors")
    save_file({renamed.get(name, name): array for name, array in state.items()}, "then_ms.safetensors")
    for form, end in (("huggingface", ""), ("mindspore", "_ms")):
        for age in ("now", "then"):
            assert convert(["--config", BERT, *SIZES], form, "zoo", f"{age}{end}.safetensors", f"{age}{end}.ckpt") == 0
        assert_equal(read(f"now{end}.ckpt"), read(f"then{end}.ckpt"))


def test_the_position_table_that_mindspores_nezha_keeps_is_passed_over(capsys):
    """Beside relative positions that program keeps it, unused; a network with absolute positions is another."""
    random_network(BERT, [*SIZES, *RELATIVE])
    assert convert(["--config", BERT, *SIZES, *RELATIVE], "zoo", "mindspore", "own.ckpt", "a.safetensors") == 0
    position = "bert.bert.bert_embedding_postprocessor.full_position_embedding.embedding_table"
    save_file({**load_file("a.safetensors"), position: np.zeros((12, 16), np.float32)}, "b.safetensors")
    assert convert(["--config", BERT, *SIZES, *RELATIVE], "mindspore", "zoo", "b.safetensors", "b.ckpt") == 0
    assert_equal(read("b.ckpt"), read("own.ckpt"))
    capsys.readouterr()
    line = refusal(capsys, ["--config", BERT, *SIZES], "mindspore", "zoo", "b.safetensors", "c.ckpt")
    assert line.startswith("SOURCE=b.safetensors; has bert.bert.bert_encoder.layers.0.attention.attention._generate_")
    sinusoids = ["--config", BERT, *SIZES, RELATIVE[0]]
    save_file(bert_weights(SMALL, MINDSPORE_BERT), "d.safetensors")
    line = refusal(capsys, sinusoids, "mindspore", "zoo", "d.safetensors", "d.ckpt")
    assert line.startswith(f"SOURCE=d.safetensors; has {position}, which bert has not; ")
    line = refusal(capsys, ["--config", BERT, *SIZES, *RELATIVE], "zoo", "huggingface", "own.ckpt", "e.ckpt")
    assert line == ("--to=huggingface; must be another form for this network; "
                    "bert.encoder.0.attention.relative.table has no name there")


STATE = resnet_weights(18, 4, 10, 3, TORCHVISION)
HEAD = STATE["fc.weight"]


@pytest.mark.parametrize("changes, words, expected", [
    ({"fc.bias": None, "bn1.weight": None}, [], "lacks bn1.weight, fc.bias of resnet18; give the --config and the "),
    ({"fc.weight": HEAD[:3]}, [], "fc.weight is 3x32 there, 10x32 here; give the --config and the "),
    ({}, ["--model.base_width=8"], "conv1.weight is 4x3x7x7 there, 8x3x7x7 here, bn1.running_mean is 4 there, 8 here, "
                                   "bn1.running_var is 4 there, 8 here and 98 more; give the --config"),
    ({}, ["--model.name=resnet34"], "lacks layer1.2.conv1.weight, layer1.2.bn1.running_mean, layer1.2.bn1.running_var "
                                    "and 77 more of resnet34; give the"),
    ({"layer1.2.conv1.weight": HEAD}, [], "has layer1.2.conv1.weight, which resnet18 has not; give the --config"),
    ({"fc.weight": HEAD * np.nan}, [], "fc.weight is not finite; it is of a run that diverged, or damaged"),
    ({"fc.weight": HEAD.astype(np.int32)}, [], "fc.weight is int32; must be of floats; save it so")])
def test_what_does_not_fit_is_named(changes, words, expected, capsys):
    changed = {name: array for name, array in {**STATE, **changes}.items() if array is not None}
    save_file(changed, "a.safetensors")
    line = refusal(capsys, [*NARROW, *words], "torchvision", "zoo", "a.safetensors", "b.ckpt")
    assert line.startswith(f"SOURCE=a.safetensors; {expected}")


@pytest.mark.parametrize("first, second, source, target, expected", [
    ("mindspore", "zoo", "a.safetensors", "b.ckpt", "SOURCE=a.safetensors; lacks bn1.moving_mean, bn1.moving_variance, "
     "bn1.gamma and 82 more of resnet18; its names look like those of torchvision, give --from torchvision"),
    ("torchvision", "huggingface", "a.safetensors", "b.ckpt", "--to=huggingface; must be one of zoo, mindspore, "
     "torchvision for resnet18; choose one of these"),
    ("torchvision", "zoo", "c.safetensors", "b.ckpt", "SOURCE=c.safetensors; is not a file; give the path of one with "
     "weights"),
    ("torchvision", "zoo", "damaged.safetensors", "b.ckpt", "SOURCE=damaged.safetensors; cannot be read as "
     "safetensors (Error while deserializing header: header too large); it may be truncated, damaged or another kind "
     "of file; use another one"),
    ("torchvision", "zoo", "damaged.ckpt", "b.ckpt", "SOURCE=damaged.ckpt; cannot be read as ckpt (a field "
     "without an end); it may be truncated, damaged or another kind of file; use another one"),
    ("torchvision", "zoo", "a.safetensors", "b.onnx", "TARGET=b.onnx; must end in one of .ckpt, .safetensors, .pth, "
     ".pt, .bin; rename it"),
    ("torchvision", "zoo", "a.safetensors", "a.safetensors", "TARGET=a.safetensors; must be a new file; give another "
     "name or remove it"),
    ("torchvision", "zoo", "a.pth", "b.ckpt", "SOURCE=a.pth; needs torch, which is not installed; pip install torch, "
     "or use a .safetensors file")])
def test_files_and_forms_that_do_not_fit(first, second, source, target, expected, capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    save_file(STATE, "a.safetensors")
    for name in ("damaged.safetensors", "damaged.ckpt"):
        (tmp_path / name).write_bytes(b"\x0a\x20weights that were cut off")
    assert refusal(capsys, NARROW, first, second, source, target) == expected


def test_weights_in_half_precision_become_float32(tmp_path):
    """bfloat16 is the upper half of float32: 1 and -2 are 0x3f80 and 0xc000."""
    halves = {name: np.where(array < 0, 0xC000, 0x3F80).astype(np.uint16) for name, array in STATE.items()}
    save_file(halves, "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes().replace(b'"U16"', b'"BF16"')
    length = int.from_bytes(content[:8], "little") + len(halves)  # of the header, in which a word became longer
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + content[8:])
    save_file({name: array.astype(np.float16) for name, array in STATE.items()}, "b.safetensors")
    for name, exact in (("a", {name: np.where(array < 0, -2, 1) for name, array in STATE.items()}),
                        ("b", {name: array.astype(np.float16) for name, array in STATE.items()})):
        assert convert(NARROW, "torchvision", "torchvision", f"{name}.safetensors", f"{name}2.safetensors") == 0
        found = load_file(f"{name}2.safetensors")
        assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
        assert_equal(found, exact)


def test_heads_that_are_not_tied_are_refused(capsys):
    state = bert_weights(SMALL, HUGGING_FACE)
    save_file({**state, "cls.predictions.decoder.weight": state["bert.embeddings.word_embeddings.weight"] + 1},
              "a.safetensors")
    assert refusal(capsys, ["--config", BERT, *SIZES], "huggingface", "zoo", "a.safetensors", "b.ckpt") == (
        "SOURCE=a.safetensors; cls.predictions.decoder.weight and bert.embeddings.word_embeddings.weight differ, which "
        "are one parameter here; use a network with tied weights")


def test_it_says_what_was_written_and_when_the_geometry_is_another(capsys):
    save_file(STATE, "a.safetensors")
    assert convert(NARROW, "torchvision", "zoo", "a.safetensors", "b.ckpt") == 0
    assert capsys.readouterr().out == ("b.ckpt: 102 parameters of resnet18 with zoo names, from a.safetensors with "
                                       "torchvision names\n")
    assert convert(NARROW, "zoo", "mindspore", "b.ckpt", "c.ckpt") == 0
    assert capsys.readouterr().out.splitlines()[1] == ("they belong to model.geometry standard, and under these names "
                                                       "to official, where they compute something else")


def test_words_of_the_command_line_may_stand_in_any_order(capsys):
    save_file(STATE, "a.safetensors")
    words = ["a.safetensors", "--model.base_width", "4", "--from", "torchvision", "b.ckpt", "--to=mindspore",
             "--model.stem", "imagenet", "--config", NARROW[1]]
    assert main(words) == 0
    for wrong in (["a.safetensors"], ["a.safetensors", "b.ckpt", "c.ckpt"]):
        with pytest.raises(SystemExit) as ended:
            main([*NARROW, "--from", "torchvision", "--to", "zoo", *wrong])
        assert ended.value.code == 2
        assert f"{len(wrong)} paths; must be SOURCE and TARGET" in capsys.readouterr().err


def test_a_scheme_knows_its_names():
    scheme = Scheme({"a.#.b.#.*": "x#.y#d.*", "c": "z"}, leaves={"gamma": "weight"})
    assert scheme.name("a.3.b.12.gamma") == "x3.y12d.weight"
    assert scheme.name("a.3.b.12.beta") == "x3.y12d.beta"
    assert (scheme.name("c"), scheme.name("c.weight"), scheme.name("ema.a.3.b.12.gamma")) == ("z", None, None)
    assert scheme.is_weight("x7.y0d.weight") and not scheme.is_weight("x7.y0d.num_batches_tracked")
    assert Scheme().name("anything") == "anything"


def test_state_dictionaries_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in STATE.items()}
    torch.save({"epoch": 3, "state_dict": state}, "a.pth")
    assert_equal(read_weights(tmp_path / "a.pth", "SOURCE"), STATE)
    assert convert(NARROW, "torchvision", "torchvision", "a.pth", "b.pt") == 0
    assert_equal({name: value.numpy() for name, value in torch.load("b.pt").items()}, STATE)
