"""Text to BERT pretraining data: ``python -m models.bert.prepare --output DIR [--input PATH ...] [--option value]``.

    DIR/vocab.txt                       the WordPiece vocabulary
    DIR/train/part-00000.mindrecord     shards of masked sentence pairs, held-out documents in held_out/
    DIR/corpus.json                     settings and counts; written last

Interrupted, the same command goes on where it was. Documents go through the memory one part at a time.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from models.bert.corpus import CORPUS, HELD_OUT, TRAIN, VOCABULARY, WORK, CorpusError
from models.bert.corpus.builtin import builtin_documents, facts, source_files
from models.bert.corpus.documents import Piece, find_files, read_documents
from models.bert.corpus.masking import Masking
from models.bert.corpus.notes import damaged, read_json
from models.bert.corpus.pairs import Pairing
from models.bert.corpus.partition import Parts, part_path, partition
from models.bert.corpus.shards import Recipe, write_shard
from models.bert.corpus.vocabulary import Vocabulary, read_vocabulary, train_vocabulary
from models.bert.corpus.workers import process_pool
from models.bert.prepared import note_of
from models.config.errors import ConfigError, invalid
from models.config.section import Section
from thor.checks import flag, integer, number, optional, setting, text

MOST_PARTS = 500
BUILTIN_SHARE = 0.35  # of the source files' bytes that is prose


@dataclass(frozen=True)
class Preparation(Section):
    """Settings of the preparation; the defaults are those of BERT's published data, but for 5 passes, not 10.

    Attributes:
        vocab: vocab.txt to use; null trains one on the training documents.
        vocab_size: word pieces of a trained vocabulary at most.
        lowercase: lowercase text and strip its accents.
        sequence_length: tokens of a pair, the three special ones included.
        max_predictions: masked positions of a pair at most.
        masked_share: of a pair's tokens that is predicted.
        whole_words: mask words, not word pieces.
        dup_factor: passes over the training text, each with other pairs and masks.
        short_probability: share of the pairs made shorter than sequence_length.
        held_out: share of the documents held out for evaluation.
        part_mb: MB of text a part; a worker holds one in memory, and makes one shard of it.
        seed: of the split, the pairs and the masks.
    """

    vocab: str | None = setting(None, optional(text("the path of a vocab.txt"), "a trained one"))
    vocab_size: int = setting(30522, integer(30, limit=10 ** 6))
    lowercase: bool = setting(True, flag())
    sequence_length: int = setting(128, integer(8, limit=2 ** 16))
    max_predictions: int = setting(20, integer(1, limit=2 ** 16))
    masked_share: float = setting(0.15, number(above=0, below=1))
    whole_words: bool = setting(False, flag())
    dup_factor: int = setting(5, integer(1, limit=10 ** 4))
    short_probability: float = setting(0.1, number(minimum=0, maximum=1))
    held_out: float = setting(0.02, number(above=0, below=1))
    part_mb: float = setting(16.0, number(above=0))
    seed: int = setting(1, integer(0, 2 ** 32 - 1))


def main(words: Sequence[str] | None = None) -> int:
    """Prepare as the command line says; the exit status."""
    known = _parser().parse_args(words)
    try:
        given = {field.name: getattr(known, field.name) for field in fields(Preparation)}
        options = Preparation(**{name: value for name, value in given.items() if value is not None})
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
    vocabulary = None if options.vocab is None else read_vocabulary(options.vocab, options.lowercase)
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
    _write_vocabulary(output / VOCABULARY, vocabulary)
    counts = _write_shards(work, output, parts, _recipe(options, vocabulary), workers)
    _write_json(output / CORPUS, {**settings, "vocab_size": len(vocabulary.words), "documents": documents,
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
    if (output / VOCABULARY).exists():
        return read_vocabulary(output / VOCABULARY, options.lowercase)
    texts = [part_path(work, TRAIN, index) for index in range(parts.train)]
    return train_vocabulary(texts, options.vocab_size, options.lowercase)


def _write_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    part = path.with_suffix(".part")
    part.write_text("\n".join(vocabulary.words) + "\n", encoding="utf-8")
    part.replace(path)


def _recipe(options: Preparation, vocabulary: Vocabulary) -> Recipe:
    return Recipe(Masking(vocabulary, options.masked_share, options.max_predictions, options.whole_words),
                  Pairing(options.sequence_length, options.short_probability), options.dup_factor, options.seed)


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
    part = path.with_suffix(".tmp")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m models.bert.prepare", allow_abbrev=False,
                                   description="Make BERT pretraining data from plain text.")
    made.add_argument("--input", nargs="+", default=[], metavar="PATH",
                      help="text files and folders of them; without it, Python's reference text and the docstrings of "
                           "the installed scientific packages")
    made.add_argument("--output", required=True, metavar="DIR", help="new folder for the data")
    made.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes, %(default)s")
    for option in fields(Preparation):
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


if __name__ == "__main__":
    sys.exit(main())
