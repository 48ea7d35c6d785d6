"""What debugging files said of addresses, kept between runs by the build's id.

A vmlinux takes seconds; what it said is a few bytes per address. Kept are answers alone, never
anything that is run; where nothing can be kept the file is asked again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from collectors.compiled import store
from collectors.dwarf.debug import Frame
from collectors.dwarf.sizes import KernelSizes, sizes_of
from collectors.fitting import fits
from collectors.symbols.table import Landmarks, Symbols

if TYPE_CHECKING:
    from collectors.dwarf.debug import DebugFile

_Answer = TypeVar("_Answer")
MOST_ADDRESSES: Final = 1 << 16
"""Of one file; of more the oldest are not kept."""
_FORM: Final = 1
_MOST_FRAMES: Final = 64


def frames_of(file: DebugFile, addresses: Iterable[int]) -> dict[int, tuple[Frame, ...]]:
    """Functions of addresses, as :meth:`collectors.dwarf.debug.DebugFile.frames` gives them.

    Parameters
    ----------
    file
        The file. One without a build id is asked every time.
    addresses
        As the file has them.
    """
    wanted = set(addresses)
    name = _name_of(file)
    known = {} if name is None else _read(name)
    asked = wanted - known.keys()
    if asked:
        known |= file.frames(asked)
        if name is not None:
            _write(name, known)
    return {address: known[address] for address in wanted}


def kernel_sizes(file: DebugFile) -> KernelSizes:
    """What a vmlinux says of sizes, as :func:`collectors.dwarf.sizes.sizes_of` does."""

    def made(told: Any) -> KernelSizes:
        known = KernelSizes._make(told)
        if not all(fits(size, int | None) for size in known):
            raise TypeError
        return known

    return _kept(file, "sizes", lambda: sizes_of(file), made)


def landmarks_of(file: DebugFile) -> Landmarks:
    """By what a vmlinux is compared with a capture's kallsyms."""

    def made(told: Any) -> Landmarks:
        marks, sample = told
        known = Landmarks(dict(marks), [(at, name) for at, name in sample])
        if not fits(known.marks, Mapping[str, int]) or not all(
            fits(pair, tuple[int, str]) for pair in known.sample
        ):
            raise TypeError
        return known

    return _kept(file, "landmarks", lambda: Landmarks.of(Symbols.from_elf(file.file)), made)


def _kept(
    file: DebugFile, what: str, ask: Callable[[], _Answer], made: Callable[[Any], _Answer]
) -> _Answer:
    """An answer of a file: as it was kept, `made` of what JSON has of it, or asked for anew."""
    name = _name_of(file, what)
    if name is not None and (content := store.load(name, store.FRAMES)) is not None:
        with suppress(ValueError, TypeError, AttributeError, RecursionError):
            return made(json.loads(content))
    told = ask()
    if name is not None:
        store.keep(name, json.dumps(told).encode(), store.FRAMES)
    return told


def _name_of(file: DebugFile, what: str = "dwarf") -> str | None:
    """Under which name answers are kept: a digest of the build's id and of the file's sections."""
    elf = file.file
    if not elf.build_id:
        return None
    made_of = (_FORM, elf.build_id, [*map(repr, elf.sections)])
    return f"{what}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:24]}"


def _read(name: str) -> dict[int, tuple[Frame, ...]]:
    """What was kept; nothing where it is not what this wrote."""
    content = store.load(name, store.FRAMES)
    if content is None:
        return {}
    try:
        return {int(address, 16): _frames(rows) for address, rows in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _frames(rows: Any) -> tuple[Frame, ...]:
    made = tuple(Frame(function, file, line) for function, file, line in rows[:_MOST_FRAMES])
    for function, file, line in made:
        is_right = isinstance(function, str) and isinstance(file, str)
        if not is_right or not (line is None or isinstance(line, int)):
            raise TypeError
    return made


def _write(name: str, known: Mapping[int, tuple[Frame, ...]]) -> None:
    last = [*known.items()][-MOST_ADDRESSES:]
    text = json.dumps({f"{address:x}": frames for address, frames in last})
    store.keep(name, text.encode(), store.FRAMES)
