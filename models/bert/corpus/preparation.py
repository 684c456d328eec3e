"""From text to a folder of shards, whatever the records are: a preparation that goes on where it was interrupted.

    DIR/<vocabulary>                    the vocabulary, trained or given
    DIR/train/part-00000.mindrecord     shards of records, those of held-out documents in held_out/
    DIR/corpus.json                     settings and counts; written last

Documents go through the memory one part at a time. What the records are, a kind of :class:`Preparation` says.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

from models.bert.corpus import CORPUS, HELD_OUT, TRAIN, WORK, CorpusError
from models.bert.corpus.builtin import builtin_documents, facts, source_files
from models.bert.corpus.documents import Piece, find_files, read_documents
from models.bert.corpus.notes import damaged, read_json
from models.bert.corpus.partition import Parts, part_path, partition
from models.bert.corpus.shards import Recipe, write_shard
from models.bert.corpus.workers import process_pool
from models.bert.prepared import note_of
from models.config.errors import ConfigError, invalid
from models.config.section import Section
from thor.checks import integer, number, optional, setting, text

MOST_PARTS = 500
BUILTIN_SHARE = 0.35  # of the source files' bytes that is prose


class Vocabulary(Protocol):
    """Tokens and their ids."""

    def __len__(self) -> int:
        """How many tokens there are."""

    def content(self) -> str:
        """The text of its file."""


@dataclass(frozen=True)
class Preparation(Section):
    """Settings of every preparation; a kind of it adds its own and makes vocabularies and records.

    Attributes:
        program: the module that is run.
        vocabulary_file: name of the vocabulary in the folder.
        vocab: a file of that kind to use; null trains one on the training documents.
        vocab_size: tokens of a trained vocabulary at most.
        held_out: share of the documents held out for evaluation.
        part_mb: MB of text a part; a worker holds one in memory, and makes one shard of it.
        seed: of the split and of everything left to chance.
    """

    program: ClassVar[str]
    vocabulary_file: ClassVar[str]

    vocab: str | None = setting(None, optional(text("the path of a vocabulary"), "a trained one"))
    vocab_size: int = setting(30522, integer(30, limit=10 ** 6))
    held_out: float = setting(0.02, number(above=0, below=1))
    part_mb: float = setting(16.0, number(above=0))
    seed: int = setting(1, integer(0, 2 ** 32 - 1))

    @abstractmethod
    def read_vocabulary(self, path: str | Path) -> Vocabulary:
        """The vocabulary in a file; CorpusError if there is none."""

    @abstractmethod
    def train_vocabulary(self, parts: Sequence[Path]) -> Vocabulary:
        """A vocabulary for the text of ``parts``; the same text gives the same."""

    @abstractmethod
    def recipe(self, vocabulary: Vocabulary) -> Recipe:
        """How parts become records."""


def main(kind: type[Preparation], description: str, words: Sequence[str] | None = None) -> int:
    """Prepare as the command line says; the exit status."""
    known = _parser(kind, description).parse_args(words)
    try:
        given = {field.name: getattr(known, field.name) for field in fields(kind)}
        options = kind(**{name: value for name, value in given.items() if value is not None})
        counts = prepare(known.input, Path(known.output), options, known.workers)
    except (ConfigError, CorpusError, OSError, BrokenProcessPool) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"error: not enough memory; {error}; give a smaller part_mb, sequence_length or workers", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    print(f"{known.output}: {counts[TRAIN]} training and {counts[HELD_OUT]} held-out records")
    return 0


def prepare(inputs: Sequence[str], output: Path, options: Preparation, workers: int = 1) -> dict[str, int]:
    """Make pretraining data in ``output``, or what is missing of it.

    Args:
        inputs: text files and folders of them; none for the built-in corpus.
        output: folder; new, or one that the same settings were used for.
        workers: processes; more than the machine has cores are not started.

    Returns:
        Records of each split.

    Raises:
        CorpusError: the text, the vocabulary or the folder cannot be used.
    """
    if workers < 1:
        raise invalid("workers", workers, "an int >= 1")
    workers = min(workers, os.cpu_count() or 1)
    files = find_files(inputs) if inputs else source_files()
    settings = _settings(files, bool(inputs), options)
    if (output / CORPUS).exists():
        return _finished(output, settings)
    vocabulary = None if options.vocab is None else options.read_vocabulary(options.vocab)
    work = _claim(output, settings)
    size = sum(file.stat().st_size for file in files) * (1.0 if inputs else BUILTIN_SHARE)
    parts = _parts(size, options)
    documents = _once(work / "documents.json", {TRAIN: int, HELD_OUT: int},
                      lambda: _partition(files, bool(inputs), work, parts, options, workers))
    if documents[TRAIN] < 2 or documents[HELD_OUT] < 1:
        for folder in (work, output / TRAIN, output / HELD_OUT):
            shutil.rmtree(folder)
        raise CorpusError(f"the input has {documents[TRAIN]} training and {documents[HELD_OUT]} held-out documents; "
                          "must have 2 and 1 at least; give more documents (a blank line ends one) or another held_out")
    vocabulary = vocabulary or _train_vocabulary(output, work, parts, options)
    _write_text(output / options.vocabulary_file, vocabulary.content())
    counts = _write_shards(work, output, parts, options.recipe(vocabulary), workers)
    _write_json(output / CORPUS, {**settings, "vocab_size": len(vocabulary), "documents": documents,
                                  "records": counts, **note_of(output, workers)})
    shutil.rmtree(work)
    return counts


def _settings(files: list[Path], given: bool, options: Preparation) -> dict[str, Any]:
    source = [[str(file.resolve()), file.stat().st_size] for file in files] if given else facts()
    return {"settings": asdict(options), "source": source}


def _finished(output: Path, settings: dict[str, Any]) -> dict[str, int]:
    found = read_json(output / CORPUS, {"settings": dict, "source": list, "records": dict})
    _require_same(output, found, settings)
    counts = {split: found["records"].get(split) for split in (TRAIN, HELD_OUT)}
    if not all(isinstance(count, int) for count in counts.values()):
        raise damaged(output / CORPUS)
    return counts


def _require_same(output: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [name for name, value in wanted["settings"].items() if found["settings"].get(name) != value]
    if found["source"] != wanted["source"]:
        differing.append("input")
    if differing:
        raise CorpusError(f"output={output}; holds data made with another {', '.join(differing)}; delete it or give "
                          "another folder")


def _claim(output: Path, settings: dict[str, Any]) -> Path:
    work = output / WORK
    note = work / "settings.json"
    if note.exists():
        _require_same(output, read_json(note, {"settings": dict, "source": list}), settings)
        return work
    if output.exists() and any(entry.name != WORK for entry in output.iterdir()):
        raise CorpusError(f"output={output}; must be a new or empty folder; it holds other files")
    for folder in (work, output / TRAIN, output / HELD_OUT):
        folder.mkdir(parents=True, exist_ok=True)
    _write_json(note, settings)
    return work


def _parts(size: float, options: Preparation) -> Parts:
    def count(share: float) -> int:
        return min(MOST_PARTS, max(1, round(size * share / (options.part_mb * 1e6))))
    longest = min(int(options.part_mb * 1e6), Parts.longest)
    return Parts(count(1 - options.held_out), count(options.held_out), options.held_out, longest)


def _partition(files: list[Path], given: bool, work: Path, parts: Parts, options: Preparation,
               workers: int) -> dict[str, int]:
    pieces = (piece for file in files for piece in read_documents(file)) if given else \
        builtin_documents(files, workers)
    total = sum(file.stat().st_size for file in files)
    return partition(_with_bar(pieces, total), work, parts, options.seed)


def _with_bar(pieces: Iterator[Piece], total: int) -> Iterator[Piece]:
    from tqdm import tqdm

    with tqdm(total=total, desc="documents", unit="B", unit_scale=True, dynamic_ncols=True, disable=None) as bar:
        for piece in pieces:
            bar.update(piece.bytes)
            yield piece


def _train_vocabulary(output: Path, work: Path, parts: Parts, options: Preparation) -> Vocabulary:
    if (output / options.vocabulary_file).exists():
        return options.read_vocabulary(output / options.vocabulary_file)
    texts = [part_path(work, TRAIN, index) for index in range(parts.train)]
    return options.train_vocabulary(texts)


def _write_shards(work: Path, output: Path, parts: Parts, recipe: Recipe, workers: int) -> dict[str, int]:
    from tqdm import tqdm

    counts = {TRAIN: 0, HELD_OUT: 0}
    write = partial(write_shard, work, output, recipe)
    with process_pool(min(workers, len(parts.names()))) as pool:
        tasks = {pool.submit(write, *name): name[0] for name in parts.names()}
        for task in tqdm(as_completed(tasks), "shards", len(tasks), unit="shard", dynamic_ncols=True, disable=None):
            counts[tasks[task]] += task.result()
    return counts


def _once(path: Path, keys: dict[str, type], make) -> Any:
    if not path.exists():
        _write_json(path, make())
    return read_json(path, keys)


def _write_json(path: Path, value: Any) -> None:
    _write_text(path, json.dumps(value, indent=1) + "\n")


def _write_text(path: Path, content: str) -> None:
    part = path.with_suffix(".tmp")
    part.write_text(content, encoding="utf-8")
    part.replace(path)


def _parser(kind: type[Preparation], description: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=f"python -m {kind.program}", allow_abbrev=False, description=description)
    made.add_argument("--input", nargs="+", default=[], metavar="PATH",
                      help="text files and folders of them; without it, Python's reference text and the docstrings of "
                           "the installed scientific packages")
    made.add_argument("--output", required=True, metavar="DIR", help="new folder for the data")
    made.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, %(default)s")
    for option in fields(kind):
        _add(made, option)
    return made


def _add(made: argparse.ArgumentParser, option) -> None:
    check = option.metadata["check"]
    if isinstance(option.default, bool):
        made.add_argument(f"--{option.name}", action=argparse.BooleanOptionalAction, default=None)
    else:
        kind = str if option.default is None else type(option.default)
        made.add_argument(f"--{option.name}", type=kind, metavar=option.name.upper(),
                          help=f"{check.wanted_in_yaml}; {option.default}")
