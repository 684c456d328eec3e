"""Encoded images: whole ones pass as they are, cut and damaged ones never reach MindSpore's decoder."""
from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from models.data.encoded import CheckedImage, check_image

PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 4), np.uint8)


def encode(kind: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    pixels = PIXELS[..., 0] if mode in ("L", "P") else PIXELS[..., :len(mode)]
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


WHOLE = {"baseline": encode(), "progressive": encode(progressive=True), "grey": encode(mode="L"),
         "CMYK": encode(mode="CMYK"), "restarts": encode(restart_marker_blocks=2), "4:4:4": encode(subsampling=0),
         "4:2:2": encode(subsampling=1), "Exif": encode(exif=b"Exif\0\0" + bytes(40)), "comment": encode(comment=b"a"),
         "PNG": encode("PNG"), "PNG RGBA": encode("PNG", "RGBA"), "PNG palette": encode("PNG", "P"),
         "PNG grey": encode("PNG", "L")}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
def test_whole_images_pass_and_every_beginning_of_one_is_refused(content):
    array = np.frombuffer(content, np.uint8)
    assert CheckedImage()(array) is array
    check_image(content + b"what stands behind an image is no part of it")
    for length in range(len(content)):
        with pytest.raises(ValueError, match="; delete or replace it$"):
            check_image(content[:length])


def marker(content: bytes, code: int) -> int:
    """Where the first segment of a kind begins."""
    return content.index(bytes((0xFF, code)))


def patched(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new):]


def with_header(*fields: int) -> bytes:
    """A PNG file with another header: width, height, depth, colour type, compression, filter, interlace."""
    header = b"IHDR" + struct.pack(">2I5B", *fields)
    return patched(WHOLE["PNG"], 12, header + zlib.crc32(header).to_bytes(4, "big"))


BASE, STEPS = WHOLE["baseline"], WHOLE["progressive"]
FRAME, SCAN, CODE, TABLE = (marker(BASE, code) for code in (0xC0, 0xDA, 0xC4, 0xDB))


@pytest.mark.parametrize("content, reason", [
    (b"", "is empty"),
    (b"BM plain text", "is neither a JPEG nor a PNG file"),
    (BASE[:300], "ends within its header; it is truncated"),
    (BASE[:SCAN + 100], "ends within the picture; it is truncated"),
    (b"\xff\xd8\xff\xd9", "has no picture"),
    (patched(BASE, 2, b"\0"), "has no JPEG marker at byte 2"),
    (patched(BASE, 4, b"\0\1"), "has a JPEG segment of length 1 at byte 4"),
    (patched(BASE, TABLE + 4, b"\x30"), "has a damaged table of quantization"),
    (patched(BASE, TABLE + 1, b"\xfe"), "lacks a table of quantization"),
    (patched(BASE, CODE + 5, b"\3"), "has a damaged Huffman table"),  # three codes of one bit
    (patched(BASE, CODE + 21, b"\x10"), "has a damaged Huffman table"),  # a difference of sixteen bits
    (patched(BASE, CODE + 1, b"\xfe"), "lacks a Huffman table"),
    (patched(BASE, CODE + 1, b"\xcc"), "has an unexpected JPEG segment FFCC"),
    (patched(BASE, FRAME + 1, b"\xc3"), "is coded in a way (FFC3) that is not read"),
    (patched(BASE, FRAME + 5, b"\0\0"), "its header says 24 x 0 pixels"),
    (patched(BASE, FRAME + 5, b"\xff\xff\xff\xff"), "its header says 65535 x 65535 pixels, more than 178956970"),
    (patched(BASE, FRAME + 11, b"\0"), "has a damaged frame header"),  # no samples
    (patched(BASE, FRAME + 11, b"\x44"), "has a damaged frame header"),  # 18 blocks a unit
    (BASE[:SCAN] + BASE[FRAME:], "has two frames"),
    (patched(BASE, SCAN + 5, b"\2"), "has a damaged scan header"),  # a component twice
    (patched(STEPS, marker(STEPS, 0xDA) + 11, b"\x40"), "has a damaged scan header"),  # coefficients 64 to 0
    (patched(WHOLE["PNG"], 40, b"\0\0\0\0"), "has a damaged PNG chunk at byte 33"),
    (patched(WHOLE["PNG"], 16, b"\1"), "has a damaged PNG chunk at byte 8"),
    (with_header(0, 0, 8, 2, 0, 0, 0), "its header says 0 x 0 pixels"),
    (with_header(5, 5, 4, 2, 0, 0, 0), "has a damaged PNG header"),  # colours of four bits
    (WHOLE["PNG"][:8] + WHOLE["PNG"][33:], "does not begin with its header"),
])
def test_what_is_wrong_is_said(content, reason):
    with pytest.raises(ValueError) as caught:
        check_image(content)
    assert str(caught.value) == f"{reason}; delete or replace it"
