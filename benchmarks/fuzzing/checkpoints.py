"""Damaged checkpoints, read as a resumed run and as an evaluation reads them."""
from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

from benchmarks.fuzzing.damage import bytes_damaged
from models.command_line import loading, run

KINDS = ("checkpoint of a run", "checkpoint to evaluate")
SEAL = 17  # bytes of the checksum at the end


def prepare(folder: Path) -> None:
    """A whole checkpoint of a LeNet."""
    import mindspore as ms

    from models.checkpoint_file import BATCHES, DIGEST, SAMPLES, SEED

    facts = {BATCHES: 5, SAMPLES: 64, SEED: 1, DIGEST: "x"}
    ms.save_checkpoint(_network(), str(folder / "whole.ckpt"), append_dict=facts, crc_check=True)


def make(kind: str, folder: Path, chance: random.Random) -> tuple[str, Path]:
    """A damaged copy; a third are sealed anew, so that their contents are looked at."""
    content = (folder / "whole.ckpt").read_bytes()
    path = folder / "damaged.ckpt"
    if chance.random() < 1 / 3:
        content = bytes_damaged(content[:-SEAL], chance, chance.choice((None, 400)))
        content += b"crc_num" + zlib.crc32(content).to_bytes(10, "big")
    else:
        content = bytes_damaged(content, chance, chance.choice((None, 400)))
    path.write_bytes(content)
    return kind, path


def work(case: tuple[str, Path]) -> int:
    """Load it."""
    kind, path = case

    def entry() -> None:
        with loading():
            from models.checkpoint_file import read
            from models.evaluate import load_weights

            if kind == KINDS[0]:
                read(path)
            else:
                load_weights(_network(), str(path))
    return run(entry)


def _network() -> Any:
    from models.lenet.network import LeNet5

    return LeNet5(10, 1, 32)
