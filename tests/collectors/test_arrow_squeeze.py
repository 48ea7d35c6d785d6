"""What columns are compressed to, read back by a decoder that was written apart."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.arrow.messages import ALIGNED
from collectors.arrow.squeeze import Body

RNG = np.random.default_rng(11)


def block_of(buffer: bytes) -> tuple[int, bytes]:
    """How many bytes a buffer of Arrow holds, and the block of its frame."""
    size, head, length = struct.unpack_from("<q7sI", buffer)
    assert head == b"\x04\x22\x4d\x18\x60\x70\x73"
    assert len(buffer) == 8 + 7 + 4 + length + 4
    assert buffer[-4:] == bytes(4)
    return size, buffer[19:-4]


def read(buffer: bytes) -> bytes:
    """Read a buffer of Arrow; the rules for a block's end are looked at, too."""
    if buffer[:8] == b"\xff" * 8:
        return buffer[8:]
    size, block = block_of(buffer)
    out, at = bytearray(), 0

    def length(four: int) -> int:
        nonlocal at
        total = four
        while four == 15:
            total += block[at]
            at += 1
            if block[at - 1] < 255:
                break
        return total

    last_match = 0
    while True:
        token = block[at]
        at += 1
        literals = length(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at == len(block):
            break
        distance = block[at] | block[at + 1] << 8
        at += 2
        assert 0 < distance <= len(out)
        last_match = len(out)
        for _ in range(length(token & 15) + 4):
            out.append(out[-distance])
    assert len(out) == size
    assert literals >= 5 or not last_match
    assert not last_match or size - last_match >= 12
    return bytes(out)


def squeezed(values: np.ndarray[Any, Any]) -> bytes:
    body = Body()
    body.add(values)
    (place,) = body.places
    assert place[0] == 0
    return bytes(body.whole()[: place[1]])


COLUMNS = {
    "counted": np.arange(5000, dtype=np.uint64) * 3,
    "times": np.cumsum(RNG.integers(0, 1 << 20, 5000)) + 12_000_000_000,
    "times back and forth": np.cumsum(RNG.integers(-(1 << 33), 1 << 33, 5000)),
    "few": RNG.choice(RNG.integers(0, 1 << 60, 7), 5000),
    "few, with runs": np.repeat(RNG.choice(RNG.integers(0, 1 << 60, 7), 900), 11),
    "zeros": np.zeros(1 << 16, np.uint64),
    "narrow": RNG.integers(0, 3, 5001).astype(np.uint8),
    "of 2 bytes": RNG.integers(0, 2, 5003).astype(np.uint16),
    "far": np.concatenate([np.arange(8191, dtype=np.uint64) << np.uint64(40)] * 3),
    "too far": np.concatenate([np.arange(8192, dtype=np.uint64) << np.uint64(40)] * 3),
    "some low bytes": np.uint64(7 << 50) + (np.arange(3000, dtype=np.uint64) % 5 << np.uint64(28)),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_come_back(name: str) -> None:
    made = squeezed(COLUMNS[name])
    assert read(made) == COLUMNS[name].tobytes()
    assert len(made) < COLUMNS[name].nbytes + 9


def test_what_repeats_takes_little_room() -> None:
    """A token, a low byte and a distance for each number that is a bit more than the last."""
    assert len(squeezed(COLUMNS["counted"])) < 5000 * 4.1
    assert len(squeezed(COLUMNS["zeros"])) < (1 << 19) // 255 + 64


def test_what_does_not_repeat_stays_as_it_is() -> None:
    noise = RNG.integers(0, 1 << 63, 5000)
    assert squeezed(noise) == b"\xff" * 8 + noise.tobytes()


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([0, 1, 7, 256, 70_000, 1 << 25, 1 << 33, 1 << 62]), max_size=60),
    st.binary(max_size=7),
)
def test_any_bytes_come_back(numbers: list[int], more: bytes) -> None:
    plain = np.frombuffer(np.array(numbers, np.uint64).tobytes() + more, np.uint8)
    assert read(squeezed(plain)) == plain.tobytes()


def test_buffers_stand_one_behind_the_other() -> None:
    body = Body()
    columns = list(COLUMNS.values())
    for values in columns:
        body.add_nothing()
        body.add(values)
    body.add_made(body.last())
    whole = bytes(body.whole())
    assert len(whole) == body.size
    assert body.places[::2][:-1] == [(at, 0) for at, _ in body.places[1:-1:2]]
    end = 0
    for (at, size), values in zip(body.places[1:-1:2], columns, strict=True):
        assert at % ALIGNED == 0
        assert whole[end:at] == bytes(at - end)
        assert read(whole[at : at + size]) == values.tobytes()
        end = at + size
    (one, size), (two, again) = body.places[-2:]
    assert whole[one : one + size] == whole[two : two + again]
    body.clear()
    assert (body.places, body.size) == ([], 0)
