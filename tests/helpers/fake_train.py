"""Stands for models.train: writes what a run leaves behind. How it ends is told by FAKE_TRAIN_<OPTIMIZER>.

The accuracy of an evaluation is 1 - learning rate + epoch / 100; every call adds its optimizer to calls.txt.
"""
from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from models.config import load_config

COLUMNS = "epoch,step,loss,learning_rate,damping,eval_loss,eval_accuracy,seconds"


def main(words: list[str]) -> int:
    config = load_config(words[1], words[2:])
    with open(Path(os.environ["FAKE_TRAIN_CALLS"]), "a", encoding="utf-8") as stream:
        stream.write(f"{config.optimizer.name} {config.seed}\n")
    folder = Path(config.train.run_dir) / "network_data_optimizer" / "20260101-000000"
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    rate = config.optimizer.learning_rate.initial
    rows = [COLUMNS]
    for step in range(5, 41, 5):
        accuracy = f"{1 - rate + step / 2000}" if step % 20 == 0 else ""
        rows.append(f"{step / 20},{step},{rate / step},{rate},,,{accuracy},{100 + step * rate}")
    how = os.environ.get(f"FAKE_TRAIN_{config.optimizer.name.upper()}", "")
    if how == "diverged":
        rows = rows[:3]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if how == "diverged":
        print("error: loss is nan at batch 11 (epoch 0.55); training has diverged, or the data hold NaN")
        return 1
    if how == "refused":
        print("error: data.path=x; is not a folder")
        return 1
    if how == "stalled" and not (folder / "again").exists():
        (folder / "again").touch()
        time.sleep(60)
    if how == "killed":
        os.kill(os.getpid(), 9)
    (folder / "checkpoints" / "step-000040.ckpt").write_bytes(bytes(2 ** 20))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
