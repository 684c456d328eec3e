"""Random damage to bytes and to lines of text."""
from __future__ import annotations

import random

# What a hand or a program gone wrong might write where a value stands.
VALUES = ("", "-1", "0", "1e39", "1e-46", "-0.0", ".nan", ".inf", "1" * 5000, "2147483648", "10000000000000", "true",
          "null", "~", "[]", "{}", "[[[[]]]]", "!!int abc", "!!float x", "!!python/object:os.system", "&a [*a]", "*b",
          "'", '"', "{a: 1, a: 2}", "thor", "\0", "\x1b[31m", "\u2028", "a" * 3000, "/" * 5000, "../../etc/passwd",
          "lookahead(" + " " * 2000, "lookahead(lookahead(thor))", "2001-01-01", "0x10", "1_000", "- x", "? y",
          "<<: {}", "[" * 3000, "{a: " * 2000, "|\n", ">\n", "%", "@", "`", "1:30", "=")


def bytes_damaged(content: bytes, chance: random.Random, first: int | None = None) -> bytes:
    """``content`` cut, longer, or with other bytes; ``first`` keeps the damage to so many bytes at the beginning."""
    made = bytearray(content)
    end = max(1, min(len(made), first or len(made)))
    place = chance.randrange(end)
    kind = chance.choice(("cut", "flip", "flip", "flips", "random", "zeros", "ones", "delete", "repeat", "empty"))
    if kind == "cut":
        del made[place:]
    elif kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 20):
            made[chance.randrange(end)] ^= 1 << chance.randrange(8)
    elif kind == "random":
        made[place:place + 16] = chance.randbytes(16)
    elif kind in ("zeros", "ones"):
        made[place:place + 64] = (b"\0" if kind == "zeros" else b"\xff") * 64
    elif kind == "delete":
        del made[place:place + chance.randrange(1, 64)]
    elif kind == "repeat":
        made[place:place] = made[place:place + 256]
    elif chance.random() < 0.2:
        made.clear()
    return bytes(made)


def text_damaged(text: str, chance: random.Random) -> str:
    """YAML with some values, lines or characters changed."""
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(lines))
        line = lines[place]
        kind = chance.choice(("value", "value", "value", "key", "drop", "repeat", "indent", "letter", "insert"))
        if kind == "value" and ":" in line:
            lines[place] = f"{line.split(':')[0]}: {chance.choice(VALUES)}\n"
        elif kind == "key":
            lines[place] = line.replace(":", f"{chance.choice('xyz_')}:", 1)
        elif kind == "drop":
            lines[place] = ""
        elif kind == "repeat":
            lines.insert(place, line)
        elif kind == "indent":
            lines[place] = chance.choice((" ", "   ", "\t")) + line
        elif kind == "letter" and line:
            index = chance.randrange(len(line))
            lines[place] = line[:index] + chance.choice("{}[]:,&*!|>'\"%@`\t\0#\u00e9\x07") + line[index + 1:]
        elif kind == "insert":
            lines.insert(place, chance.choice(VALUES) + "\n")
    return "".join(lines)
