"""What debugging files said of addresses, kept between runs by the build's id.

A vmlinux takes seconds; what it said is a few bytes per address. Kept are answers alone, never
anything that is run; where nothing can be kept the file is asked again.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from collectors.compiled import store
from collectors.dwarf.debug import Frame
from collectors.dwarf.sizes import KernelSizes, sizes_of
from collectors.fitting import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from collectors.dwarf.debug import DebugFile

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
    name = _name_of(file, "sizes")
    known = None if name is None else _sizes(name)
    if known is None:
        known = sizes_of(file)
        if name is not None:
            store.keep(name, json.dumps(known).encode(), store.FRAMES)
    return known


def _sizes(name: str) -> KernelSizes | None:
    """Sizes that were kept; None where there are none."""
    content = store.load(name, store.FRAMES)
    try:
        known = KernelSizes(*json.loads(content or b""))
    except (ValueError, TypeError, RecursionError):
        return None
    return known if all(fits(size, int | None) for size in known) else None


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
