"""Mutations of bytes and of lines, drawn from a seeded generator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

MAX_SIZE: Final = 3 << 20
"""Inputs do not grow beyond this: the bounds on memory are tested with lies, not with bulk."""

INTERESTING: Final = (
    0, 1, 2, 3, 4, 7, 8, 15, 16, 28, 29, 30, 31, 32, 63, 64, 100, 127, 128, 255, 256, 511, 512,
    1000, 1024, 4095, 4096, 4097, 16384, 32767, 32768, 65535, 65536, (1 << 20) - 1, 1 << 20,
    (1 << 24) - 1, 1 << 26, 1 << 27, (1 << 31) - 1, 1 << 31, (1 << 32) - 4096, (1 << 32) - 1,
    1 << 32, 1 << 40, (1 << 53) + 1, (1 << 62) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096,
    (1 << 64) - 1,
)  # fmt: skip

WORDS: Final = tuple(
    w.encode()
    for w in (
        "-1", "-0", "0x", "0x0", "0xffffffff", "0xffffffffffffffff", "0x1ffffffffffffffff", "1e9",
        "nan", "inf", "18446744073709551615", "18446744073709551616", "9223372036854775808",
        "-9223372036854775809", "4294967296", "65536", "2147483648", "9" * 40, "0" * 60 + "1",
        "(fault)", "(null)", "(____ptrval____)", "\x1b[2J\x1b]0;owned\x07", "[red]bold[/red]",
        "\u202egnp.exe", "\u2028", "\x9b31m", "\0", "\r", "\t", "\v", "\f", "\ufeff", "١٢٣",
        "a" * 300,
        "%n%s", "../../../etc/passwd", "=", "==>", "<-", "=>", "(", ")", "[", "]", "{", "}", "|",
        ":", ",", "#", "\\", '"', "'", " ", "<...>", "<idle>-0", "prev_pid=", "next_comm=",
        "+0x0/0x0",
        "kmap_high", "__kmap_local_page_prot", "alloc_vmap_area", "vm_map_ram", "page=", "vaddr=",
        "CPU:1 [LOST 3 EVENTS]", "CPU:99999 [LOST EVENTS]", "CPU:0 [-4 EVENTS DROPPED]",
        "##### CPU 4294967295 buffer started ####", "<stack trace>", "(repeats: 99999999999)",
    )
)  # fmt: skip
"""What trips readers of text: numbers at borders, terminal sequences, pieces of the formats."""

_TOKEN: Final = re.compile(rb"0x[0-9a-fA-F]+|\d+(?:\.\d+)?|[A-Za-z_]\w*|[^\sA-Za-z0-9_]+")
_NUMBER: Final = re.compile(rb"0x[0-9a-fA-F]+|\d+")


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes], *, text: bool) -> bytes:
    """Change `data` in one to several places.

    Parameters
    ----------
    rng
        Where all chance comes from.
    data
        What to change.
    others
        Inputs of the same kind, to take pieces from.
    text
        Lines and words are changed besides bytes.

    Returns
    -------
    bytes
        At most :data:`MAX_SIZE` bytes.
    """
    steps: list[Callable[[random.Random, bytearray, Sequence[bytes]], None]]
    steps = [*_BYTES, *(2 * _LINES)] if text else list(_BYTES)
    out = bytearray(data or b"\n")
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4, 8, 16))):
        rng.choice(steps)(rng, out, others)
        if not out:
            break
    return bytes(out[:MAX_SIZE])


def _place(rng: random.Random, out: bytearray) -> int:
    """Position, drawn to the start and the end, where headers and tables are."""
    size = len(out)
    where = rng.random()
    if where < 0.3:
        return rng.randrange(min(size, 200))
    if where < 0.4:
        return size - 1 - rng.randrange(min(size, 200))
    return rng.randrange(size)


def _piece(rng: random.Random, out: bytearray) -> tuple[int, int]:
    start = _place(rng, out)
    return start, min(len(out), start + rng.choice((1, 2, 4, 8, 16, 64, 256, 4096)))


def _flip(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    out[_place(rng, out)] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    out[_place(rng, out)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    """Write an odd number over some bytes: a border, the file's size, or near what was there."""
    width = rng.choice((1, 2, 4, 4, 8, 8))
    at = _place(rng, out)
    if rng.random() < 0.5:
        at -= at % width
    order = rng.choice(("little", "little", "big"))
    old = int.from_bytes(out[at : at + width], order)
    value = rng.choice(
        (
            rng.choice(INTERESTING),
            rng.choice(INTERESTING),
            len(out) + rng.randrange(-2, 3),
            old + rng.randrange(-9, 10),
            old ^ 1 << rng.randrange(8 * width),
            -old,
            at,
        )
    )
    new = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)
    out[at : at + width] = new[: len(out) - at]


def _cut(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    del out[_place(rng, out) :]


def _delete(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    start, end = _piece(rng, out)
    del out[start:end]


def _repeat(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    start, end = _piece(rng, out)
    times = rng.choice((1, 1, 2, 10, 300))
    if len(out) + times * (end - start) <= MAX_SIZE:
        out[end:end] = out[start:end] * times


def _insert(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    at = _place(rng, out)
    out[at:at] = rng.choice((rng.choice(WORDS), rng.randbytes(rng.choice((1, 4, 8, 64)))))


def _overwrite(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    """Put a piece of another input, or of this one, somewhere else."""
    other = rng.choice((*others, bytes(out)))
    if not other:
        return
    start = rng.randrange(len(other))
    new = other[start : start + rng.choice((1, 4, 8, 16, 100, 1000))]
    at = _place(rng, out)
    if rng.random() < 0.3:
        out[at:at] = new
    else:
        out[at : at + len(new)] = new


def _splice(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    """Begin as this input, end as another."""
    if others:
        other = rng.choice(others)
        at = _place(rng, out)
        out[at:] = other[rng.randrange(len(other) + 1) :] if rng.random() < 0.5 else other[at:]


def _line_bounds(rng: random.Random, out: bytearray) -> tuple[int, int]:
    at = _place(rng, out)
    start = out.rfind(b"\n", 0, at) + 1
    end = out.find(b"\n", at)
    return start, len(out) if end < 0 else end + 1


def _line_away(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    start, end = _line_bounds(rng, out)
    del out[start:end]


def _line_again(rng: random.Random, out: bytearray, others: Sequence[bytes]) -> None:
    """Put a copy of a line, of this input or another, in front of some line."""
    source = bytearray(rng.choice((*others, bytes(out))) or b"\n")
    start, end = _line_bounds(rng, source)
    line = source[start:end] * rng.choice((1, 1, 1, 5, 100))
    at = _line_bounds(rng, out)[0]
    if len(out) + len(line) <= MAX_SIZE:
        out[at:at] = line


def _line_exchange(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    first, second = sorted((_line_bounds(rng, out), _line_bounds(rng, out)))
    if first[1] <= second[0]:
        one, two = out[first[0] : first[1]], out[second[0] : second[1]]
        out[first[0] : second[1]] = two + out[first[1] : second[0]] + one


def _token(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    """Replace, remove or repeat one word of a line."""
    start, end = _line_bounds(rng, out)
    found = list(_TOKEN.finditer(out, start, min(end, start + 2000)))
    if not found:
        return
    span = rng.choice(found)
    other = rng.choice(found)[0]
    new = rng.choice((rng.choice(WORDS), rng.choice(WORDS), other, b"", span[0] * 2))
    out[span.start() : span.end()] = new


def _digits(rng: random.Random, out: bytearray, _others: Sequence[bytes]) -> None:
    """Replace a number by another one, written as the old one was."""
    start, end = _line_bounds(rng, out)
    found = list(_NUMBER.finditer(out, start, min(end, start + 2000)))
    if not found:
        return
    span = rng.choice(found)
    is_hex = span[0].startswith(b"0x")
    old = int(span[0][:30], 16 if is_hex else 10)
    value = abs(
        rng.choice((rng.choice(INTERESTING), old + rng.randrange(-3, 4), old * 4096, old >> 12))
    )
    new = f"{value:#x}" if is_hex else str(value).rjust(len(span[0]), rng.choice("0 "))
    out[span.start() : span.end()] = new.encode()


_BYTES = (_flip, _byte, _number, _number, _cut, _delete, _repeat, _insert, _overwrite, _splice)
_LINES = (_line_away, _line_again, _line_exchange, _token, _token, _digits, _digits)
