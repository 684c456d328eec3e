"""Dropout whose random state is a parameter, so that a checkpoint holds it."""
from __future__ import annotations

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops


class Dropout(nn.Cell):
    """Dropout that a resumed run continues bit for bit.

    MindSpore 2.10 keeps the generator of ``nn.Dropout`` inside the compiled kernel on CPU: neither
    ``set_seed`` nor new seeds in the cell reach a graph that is compiled already. Here the mask is a hash of
    seed, call and position (integer mixing, two multiplications and three xor-shifts). It costs more: for 2
    million values, forward and backward, 127 ms against 28 ms on 2 cores.

    Args:
        p: probability of an element to become zero, 0 <= p < 1; the rest is multiplied by 1 / (1 - p).
        seed: int32 of this cell; give every cell of a network another one.

    Inputs: x, float, any shape. Outputs: the same shape; x itself when not training.
    """

    def __init__(self, p: float, seed: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p={p!r}; must be >= 0 and < 1; use 0 for no dropout")
        self.p = float(p)
        self.seed = Tensor(seed, ms.int32)
        self.limit = int(p * 2 ** 31)
        self.calls = Parameter(Tensor(0, ms.int32), name="calls", requires_grad=False)

    def construct(self, x):
        if not self.training or self.p == 0:
            return x
        calls = self.calls + 1
        key = mixed(mixed(self.seed) + calls)
        bits = mixed(ops.arange(x.size).astype(ms.int32) + key)
        kept = ops.bitwise_and(bits, Tensor(0x7FFFFFFF, ms.int32)) >= self.limit
        scaled = x * (kept.reshape(x.shape).astype(x.dtype) * (1 / (1 - self.p)))
        return ops.depend(scaled, ops.assign(self.calls, calls))


def mixed(bits):
    """int32 bits in which every input bit changes half of all output bits."""
    factor, shift = Tensor(0x45D9F3B, ms.int32), Tensor(16, ms.int32)
    bits = ops.bitwise_xor(bits, ops.bitwise_right_shift(bits, shift)) * factor
    bits = ops.bitwise_xor(bits, ops.bitwise_right_shift(bits, shift)) * factor
    return ops.bitwise_xor(bits, ops.bitwise_right_shift(bits, shift))
