"""Text from a trained GPT: ``python -m models.gpt.sample --run RUN --prompt TEXT [--temperature T] ...``."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.command_line import LoadError, loading, positive, quiet_mindspore, run
from models.config import Config, load_config
from models.config.errors import invalid
from models.gpt.prepare import VOCABULARY
from models.gpt.vocabulary import read_byte_pairs
from models.run_folder import CHECKPOINTS, CONFIG

if TYPE_CHECKING:
    from models.gpt.network import Gpt

Logits = Callable[[list[int]], np.ndarray]


def main(words: Sequence[str] | None = None) -> int:
    """Sample as the command line says; the exit status."""
    quiet_mindspore()
    known = _parser().parse_args(words)

    def entry() -> None:
        _check(known)
        with loading():
            config = load_config(known.run / CONFIG)
            if not config.model.tells_next:
                raise invalid("run", str(known.run), "a run of a network that tells the next token",
                              f"that of {config.model.name} does not")
            vocabulary = read_byte_pairs(known.vocab or Path(config.data.path) / VOCABULARY)
            if len(vocabulary) > config.model.gpt.vocab_size:
                raise invalid("vocab", str(known.vocab or config.data.path), "the network's own vocabulary",
                              f"it has {len(vocabulary)} tokens, the network {config.model.gpt.vocab_size}")
            prompt = vocabulary.tokenizer.encode(known.prompt).ids or [vocabulary.end]
            logits = next_logits(_network(config, known.checkpoint or _newest(known.run)), len(vocabulary))
            chance = np.random.default_rng(known.seed)
            tokens = sampled(logits, prompt, vocabulary.end, known.temperature, known.top_k, chance)
            found = list(islice(tokens, known.tokens))
        print(known.prompt + vocabulary.tokenizer.decode(found))
    return run(entry)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m models.gpt.sample", allow_abbrev=False,
                                   description="Go on with a text as a trained GPT would.")
    made.add_argument("--run", required=True, type=Path, metavar="RUN", help="folder of a run of models.train")
    made.add_argument("--prompt", default="", metavar="TEXT", help="text to go on with; a new document by default")
    made.add_argument("--tokens", type=positive, default=100, metavar="N", help="tokens at most, %(default)s")
    made.add_argument("--temperature", type=float, default=1.0, metavar="T",
                      help="what logits are divided by, %(default)s; 0 for the most likely token")
    made.add_argument("--top_k", type=int, default=0, metavar="K", help="only the K most likely tokens; 0 for all")
    made.add_argument("--seed", type=int, default=1, help="of chance, %(default)s")
    made.add_argument("--checkpoint", metavar="FILE", help="a checkpoint; the newest of the run by default")
    made.add_argument("--vocab", metavar="FILE", help="the tokenizer.json; that of the run's data by default")
    return made


def _check(known: argparse.Namespace) -> None:
    if not 0 <= known.temperature < float("inf"):
        raise invalid("temperature", known.temperature, "a number >= 0", "use 1 for the model's own shares")
    if known.top_k < 0:
        raise invalid("top_k", known.top_k, "an int >= 0", "use 0 for all tokens")
    if known.seed < 0:
        raise invalid("seed", known.seed, "an int >= 0")
    if not (known.run / CONFIG).is_file():
        raise LoadError(f"run={known.run}; has no {CONFIG}; give the folder of a run of models.train")


def _newest(run_folder: Path) -> str:
    from models.checkpoint_file import checkpoints

    found = checkpoints(run_folder / CHECKPOINTS)
    if not found:
        raise LoadError(f"run={run_folder}; has no checkpoints; give --checkpoint")
    return str(found[0])


def _network(config: Config, path: str) -> Gpt:
    from models.evaluate import load_weights
    from models.session import prepare_network

    network, _ = prepare_network(config)
    load_weights(network, path)
    return network.set_train(False)


def next_logits(network: Gpt, words: int) -> Logits:
    """What tells the logits ``(words,)`` of the token after some, from the last ``max_positions`` of them.

    One graph serves all lengths: nothing that stands behind a position changes it.
    """
    import mindspore as ms
    from mindspore import nn

    class Next(nn.Cell):
        """Logits after the token at ``place`` ``(1,)`` of ``input_ids`` ``(1, max_positions)``."""

        def __init__(self) -> None:
            super().__init__(auto_prefix=False)
            self.network = network

        def construct(self, input_ids, place):
            return self.network.decoder(self.network.encoded(input_ids)[place])

    cell = Next().set_train(False)

    def logits(tokens: list[int]) -> np.ndarray:
        seen = tokens[-network.max_positions:]
        row = np.zeros((1, network.max_positions), np.int32)
        row[0, :len(seen)] = seen
        return cell(ms.Tensor(row), ms.Tensor([len(seen) - 1], ms.int32)).asnumpy()[0, :words]
    return logits


def sampled(logits: Logits, prompt: list[int], end: int, temperature: float, top_k: int,
            chance: np.random.Generator) -> Iterator[int]:
    """Tokens after ``prompt`` up to the one that ends a document, which is left out."""
    tokens = list(prompt)
    while True:
        token = choose(logits(tokens), temperature, top_k, chance)
        if token == end:
            return
        tokens.append(token)
        yield token


def choose(logits: np.ndarray, temperature: float, top_k: int, chance: np.random.Generator) -> int:
    """A token by the softmax of ``logits / temperature`` over the ``top_k`` largest; 0: the largest, and all."""
    if temperature == 0:
        return int(np.argmax(logits))
    with np.errstate(over="ignore"):  # to -inf, a share of 0
        values = (logits.astype(np.float64) - logits.max()) / temperature
    if 0 < top_k < len(values):
        values[np.argsort(-values, kind="stable")[top_k:]] = -np.inf
    shares = np.exp(values)
    return int(chance.choice(len(values), p=shares / shares.sum()))


if __name__ == "__main__":
    sys.exit(main())
