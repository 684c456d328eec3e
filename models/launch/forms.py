"""The arguments of the scripts, in all their forms, to the words Python is given.

``python forms.py SCRIPT WORD...`` writes the module and its words, each followed by a NUL byte, or one line about what
is wrong; status 1 for a value that cannot be used, 2 where the usage must be shown. It runs before anything is
installed, as a file: it needs Python's own library alone.
"""
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if not __package__:
    sys.path[0] = str(ROOT)

from models.launch.arguments import (  # noqa: E402
    MODULE,
    MOST_WORKERS,
    Misused,
    Parser,
    Unusable,
    add_options,
    check_node,
    count,
    shown,
)

LAUNCH, EVALUATE = "models.launch", "models.evaluate"
DIGITS = ROOT / "configs/resnet/resnet18_digits.yaml"
SMALL_BERT, LARGE_BERT = ROOT / "configs/bert/bert_small.yaml", ROOT / "configs/bert/bert_large_ascend_8p.yaml"
TEXT = ROOT / "runs/bert_data"        # what scripts/run_standalone_pretrain.sh makes where it is given no data
EIGHTH = ["--train.accumulate_steps", "8"]   # one device keeps the batch the constants of eight are for
GPU = ["--device.target", "GPU"]
NONE = "none"                         # a dataset without files, no schema, no rank table
ANSWERS = {"true": True, "false": False}


def distribute_train(words: Sequence[str]) -> list[str]:
    """``--workers N ... CONFIG_PATH``, or ``RANK_TABLE_FILE DATASET_PATH CONFIG_PATH`` and what follows in training."""
    if not words or words[0].startswith("--"):
        return _of_options(words)
    paths, rest = _split(words, 3, 4, 5, 6)
    table = ["--rank-table", _file("RANK_TABLE_FILE", paths[0])]
    return [LAUNCH, *table, MODULE, *_training(paths[1:]), *rest]


def distribute_train_gpu(words: Sequence[str]) -> list[str]:
    """``DATASET_PATH CONFIG_PATH`` and what follows in training, on the GPUs of this machine."""
    paths, rest = _split(words, 2, 3, 4, 5)
    _, config, *training = _training(paths, GPU)
    return _of_options(["--workers", str(_gpus()), config, *training, *rest])


def standalone_train(words: Sequence[str], device: Sequence[str] = ()) -> list[str]:
    """The same on one device; the digits where there are no paths."""
    paths, rest = _split(words, 0, 2, 3, 4, 5)
    return [MODULE, *(_training(paths, device) if paths else ["--config", str(DIGITS), *device]), *rest]


def evaluation(words: Sequence[str], device: Sequence[str] = ()) -> list[str]:
    """``DATASET_PATH CHECKPOINT_PATH CONFIG_PATH``."""
    (dataset, checkpoint, config), rest = _split(words, 3)
    data, checkpoint = _dataset(dataset), _file("CHECKPOINT_PATH", checkpoint)
    return [EVALUATE, "--config", _file("CONFIG_PATH", config), "--checkpoint", checkpoint, *device, *data, *rest]


def standalone_pretrain(words: Sequence[str]) -> list[str]:
    """Nothing, ``DATA_DIR CONFIG_PATH``, or ``DEVICE_ID EPOCH_SIZE DATA_DIR [SCHEMA_DIR]``."""
    given, rest = _split(words, 0, 2, 3, 4)
    if not given:
        return [MODULE, "--config", str(SMALL_BERT), "--data.path", str(TEXT), *rest]
    if len(given) == 2:
        data = _folder("DATA_DIR", given[0])
        return [MODULE, "--config", _file("CONFIG_PATH", given[1]), "--data.path", data, *rest]
    device = ["--device.device_id", str(count("DEVICE_ID", 0, 9999)(given[0])), "--parallel.device_num", "1"]
    config, *data = _pretraining(given[1:])
    batch = [] if os.environ.get("CONFIG_PATH") else EIGHTH
    return [MODULE, "--config", config, *device, *batch, *data, *rest]


def distribute_pretrain(words: Sequence[str]) -> list[str]:
    """``DEVICE_NUM EPOCH_SIZE DATA_DIR SCHEMA_DIR RANK_TABLE_FILE``."""
    (devices, *given, table), rest = _split(words, 5)
    launch = ["--workers", str(count("DEVICE_NUM", 1, MOST_WORKERS)(devices))]
    data = _pretraining(given)
    if table != NONE:
        launch += ["--rank-table", _file("RANK_TABLE_FILE", table)]
    return _of_options([*launch, *data, *rest])


SCRIPTS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "run_distribute_train": distribute_train,
    "run_distribute_train_gpu": distribute_train_gpu,
    "run_standalone_train": standalone_train,
    "run_standalone_train_gpu": lambda words: standalone_train(words, GPU),
    "run_eval": evaluation,
    "run_eval_gpu": lambda words: evaluation(words, GPU),
    "run_standalone_pretrain": standalone_pretrain,
    "run_distribute_pretrain": distribute_pretrain,
}


def _split(words: Sequence[str], *counts: int) -> tuple[list[str], list[str]]:
    """The positional arguments, and the words from the first ``--key`` on; Misused for another number of them."""
    first = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    if first not in counts:
        raise Misused(f"{first} arguments")
    return list(words[:first]), list(words[first:])


def _training(words: Sequence[str], device: Sequence[str] = ()) -> list[str]:
    """``DATASET_PATH CONFIG_PATH [RESUME_CKPT] | [RUN_EVAL EVAL_DATASET_PATH [RESUME_CKPT]]`` for models.train."""
    dataset, config, *more = words
    told = ["--config", _file("CONFIG_PATH", config), *device, *_dataset(dataset)]
    if len(more) > 1:
        told += _held_out(*more[:2])
    if len(more) in (1, 3):
        told += ["--train.resume", _file("RESUME_CKPT", more[-1])]
    return told


def _held_out(answer: str, path: str) -> list[str]:
    """RUN_EVAL and EVAL_DATASET_PATH: after every epoch, or once at the end; from a place of their own, or not."""
    if answer.lower() not in ANSWERS:
        raise Unusable(f"RUN_EVAL={shown(answer)}; must be True or False; a checkpoint to go on with comes last")
    place = [] if path == NONE else ["--data.eval_path", _either("EVAL_DATASET_PATH", path)]
    return place if ANSWERS[answer.lower()] else [*place, "--train.eval_every_epochs", "0"]


def _pretraining(words: Sequence[str]) -> list[str]:
    """``EPOCH_SIZE DATA_DIR [SCHEMA_DIR]``: the configuration, and words for models.train."""
    epochs, data, *schema = words
    told = ["--train.epochs", str(count("EPOCH_SIZE", 1, 10 ** 6)(epochs)), "--data.path", _folder("DATA_DIR", data)]
    if schema and schema[0] != NONE:
        _either("SCHEMA_DIR", schema[0])
    return [_file("CONFIG_PATH", os.environ.get("CONFIG_PATH") or str(LARGE_BERT)), *told]


def _of_options(words: Sequence[str]) -> list[str]:
    """The form for any device: ``--workers N [--nodes M ...] CONFIG_PATH [--key value ...]``.

    Raises:
        Misused, Unusable: it is not of this form, or a value cannot be used.
    """
    made = Parser(add_help=False, allow_abbrev=False)
    add_options(made)
    made.add_argument("config")
    made.add_argument("overrides", nargs=argparse.REMAINDER)
    options = made.parse_args(words)
    if options.workers is None:
        raise Misused("--workers is needed")
    check_node(options)
    launch = ["--workers", str(options.workers)]
    if options.rank_table:
        launch += ["--rank-table", _file("--rank-table", options.rank_table)]
    else:
        launch += ["--nodes", str(options.nodes), "--node-rank", str(options.node_rank), "--master", options.master]
    return [LAUNCH, *launch, MODULE, "--config", _file("CONFIG_PATH", options.config), *options.overrides]


def _gpus() -> int:
    """DEVICE_NUM, or the GPUs that are visible."""
    given, visible = os.environ.get("DEVICE_NUM"), os.environ.get("CUDA_VISIBLE_DEVICES")
    if not given and visible:
        given = str(len(visible.split(",")))
    if not given:
        if not shutil.which("nvidia-smi"):
            raise Unusable("nvidia-smi is not on PATH; set DEVICE_NUM to the number of GPUs")
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False).stdout
        given = str(sum(line.startswith("GPU") for line in listed.splitlines()))
    return count("DEVICE_NUM", 1, MOST_WORKERS)(given)


def _dataset(path: str) -> list[str]:
    return [] if path == NONE else ["--data.path", _folder("DATASET_PATH", path)]


def _file(name: str, path: str) -> str:
    """The whole path of a file; Unusable if it is none."""
    if not os.path.isfile(path):  # False for names no file system takes, where Path raises
        raise Unusable(f"{name}={shown(path)} is not a file")
    return str(Path(path).resolve())


def _folder(name: str, path: str) -> str:
    """The whole path of a directory; Unusable if it is none."""
    if not os.path.isdir(path):
        raise Unusable(f"{name}={shown(path)} is not a directory")
    return str(Path(path).resolve())


def _either(name: str, path: str) -> str:
    """The whole path of a file or directory; Unusable if it is neither."""
    if not os.path.exists(path):
        raise Unusable(f"{name}={shown(path)} is not a file or directory")
    return str(Path(path).resolve())


def main(words: Sequence[str]) -> int:
    """Write what the words of a script become; the exit status."""
    script, *given = words
    try:
        sys.stdout.write("".join(f"{word}\0" for word in SCRIPTS[script](given)))
    except Misused:
        return 2
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
