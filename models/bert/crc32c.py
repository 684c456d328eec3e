"""CRC-32C (Castagnoli), which TFRecord files carry, in NumPy: Python's zlib has CRC-32 alone."""
from __future__ import annotations

import functools

import numpy as np

_POLYNOMIAL = 0x82F63B78  # reflected
_BLOCK = 4096


def crc32c(content: bytes) -> int:
    """The checksum of ``content``.

    It is linear over GF(2): the exclusive or of what each byte contributes by itself, given the bytes behind it.
    """
    state = 0xFFFFFFFF
    for start in range(0, len(content), _BLOCK):
        block = np.frombuffer(content, np.uint8, min(_BLOCK, len(content) - start), start).astype(np.intp)
        head = min(4, len(block))
        block[:head] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint8)[:head]
        block += _offsets()[_BLOCK - len(block):]
        state = int(np.bitwise_xor.reduce(_contributions().take(block))) ^ (state >> 8 * head if head < 4 else 0)
    return state ^ 0xFFFFFFFF


def masked_crc32c(content: bytes) -> int:
    """The checksum as TFRecord files have it: rotated, and with a constant added."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _contributions() -> np.ndarray:
    """``(_BLOCK * 256,)`` uint32: of byte b followed by k others at ``256 k + b``."""
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = row >> 1 ^ np.where(row & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    rows, first = [row], row
    for _ in range(_BLOCK - 1):
        row = first[row & 255] ^ row >> 8
        rows.append(row)
    return np.concatenate(rows)


@functools.cache
def _offsets() -> np.ndarray:
    """``(_BLOCK,)``: where the contributions of each byte of a block begin, those of the last at 0."""
    return np.arange(_BLOCK - 1, -1, -1) * 256
