"""The tables that the compiled scanner looks into, and the Python that fills them.

Every thread has its own :class:`Tables` (arrays that only it changes); all share one
:class:`SharedNames`, which gives task names and call sites their numbers.
"""

from __future__ import annotations

import copy
import re
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from collectors.errors import HmtraceError
from collectors.probes import slot_of
from collectors.text import heads as heads_module
from collectors.text.layout import (
    FUNCTION_EVENT,
    PLAIN,
    PLAIN_NAME,
    Arg,
    Cell,
    Head,
    Left,
    Scan,
    Space,
    Status,
)
from collectors.text.stacks import frames_of, without_size
from collectors.traceevent.stacks import MAX_STACKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.text.addresses import Addresses

MAX_HEADS: Final = 1 << 18
"""Different events and call sites that a trace may have; a kernel has some ten thousands."""
LEFTS: Final = 4096
"""Left halves that are kept, a power of two: tasks times contexts that they run in."""
MAX_COMMS: Final = 1 << 20
_ODD_HEADS: Final = 64
_PLACE: Final = re.compile(r"(?:(0x[0-9a-f]{1,16})|([^ ]+(?: \[[^ ]*\])?))(?: \(-?\d+\))?")
_MASK: Final = (1 << 64) - 1
_K: Final = 0x9E3779B97F4A7C15


class SharedNames:
    """Numbers of task names and call sites, shared by all threads of one reading.

    Parameters
    ----------
    addresses
        Resolves raw addresses.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.addresses = addresses
        self.comms: dict[str, int] = {"": 0}
        self.sites: dict[str, int] = {"": 0}
        self.stacks: dict[str, int] = {"": 0}
        self._odd: dict[str, int] = {}
        self._probed: set[str] = set()
        self._meanings: dict[tuple[int, bytes], heads_module.HeadMeaning] = {}
        self._lock = threading.Lock()

    def comm(self, name: str) -> int:
        """Number of a task name."""
        with self._lock:
            return self.comms.setdefault(name, len(self.comms))

    def site(self, name: str) -> int:
        """Number of a call site, as binary traces have it: without the function's size."""
        with self._lock:
            return self.sites.setdefault(without_size(name), len(self.sites))

    def shown(self, place: str) -> str:
        """Place as ``symbol+0x12``, where option ``fields`` has its address, or both."""
        found = _PLACE.fullmatch(place)
        if found is None:
            return place
        number = found[1]
        if number is None:
            return found[2]
        return self.addresses.symbols.lookup(int(number, 16)) or number

    @property
    def notes(self) -> list[str]:
        """What the user should know about the tables."""
        if len(self.stacks) <= MAX_STACKS:
            return []
        return [f"more than {MAX_STACKS} different stack traces: the others are left out"]

    def stack(self, block: bytes) -> int | None:
        """Number of a stack trace, 0 without a frame; None: there are too many different ones."""
        with self._lock:
            frames = frames_of(block)
            if len(self.stacks) > MAX_STACKS:
                return self.stacks.get(frames)
            return self.stacks.setdefault(frames, len(self.stacks))

    def meaning(self, space: int, text: bytes) -> heads_module.HeadMeaning:
        """Meaning of a head or of a function's name."""
        with self._lock:
            key = space, text
            if key not in self._meanings:
                words = text.decode("utf-8", "replace")
                if space == Space.HEAD:
                    found = heads_module.meaning_of_event(words, self.addresses)
                    self._meanings[key] = self._believed(words.partition(":")[0], found)
                elif space == Space.GRAPH:
                    self._meanings[key] = heads_module.meaning_of_call(words)
                else:
                    name = self.shown(words) if words.startswith("0x") else words
                    self._meanings[key] = heads_module.meaning_of_function(name)
            return self._meanings[key]

    def _believed(self, event: str, found: heads_module.HeadMeaning) -> heads_module.HeadMeaning:
        """Take an event for no probe only after many heads: the first may be damaged lines."""
        if found.kind != PLAIN_NAME:
            if found.kind != PLAIN:
                self._probed.add(event)
            return found
        self._odd[event] = self._odd.get(event, 0) + 1
        if event in self._probed or self._odd[event] <= _ODD_HEADS:
            return heads_module.HeadMeaning(PLAIN, found.label)
        return found


class Tables:
    """One thread's tables.

    Parameters
    ----------
    buf
        The text.
    names
        Shared numbers.
    source
        Name of the trace, for errors.
    """

    def __init__(self, buf: NDArray[np.uint8], names: SharedNames, source: str) -> None:
        self.buf = buf
        self.address = buf.ctypes.data
        self.names = names
        self.source = source
        self.labels: list[str] = []
        self.heads = np.zeros((256, Head.COLUMNS), np.int64)
        self.hashes = np.zeros(256, np.uint64)
        self.slots = np.full(1024, -1, np.int32)
        self.args = np.zeros((256, Arg.COLUMNS), np.int64)
        self._args = 0
        self.comm_slots = np.full(512, -1, np.int32)
        self.comm_keys = np.zeros((128, 3), np.uint64)
        self._comms = 0
        self.lefts = np.zeros((LEFTS, Left.COLUMNS), np.int64)

    def clone(self) -> Tables:
        """Tables for another thread, with what these know and counts at 0."""
        other = copy.copy(self)
        for name in (
            "heads",
            "hashes",
            "slots",
            "args",
            "comm_slots",
            "comm_keys",
            "lefts",
            "labels",
        ):
            setattr(other, name, copy.copy(getattr(self, name)))
        other.heads[:, Head.COUNT] = 0
        return other

    def scan(
        self,
        work: NDArray[np.int64],
        stats: NDArray[np.int64],
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
    ) -> Scan:
        """What a scanner is given to go on with these tables."""
        return Scan(
            self.address,
            len(self.buf),
            work,
            work[Cell.OUT : Cell.VALUES],
            work[Cell.VALUES : Cell.SEEN],
            work[Cell.SEEN : Cell.FOUND],
            work[Cell.FOUND : Cell.CELLS],
            stats,
            rows,
            columns,
            self.slots,
            self.hashes,
            self.heads,
            self.args,
            self.comm_slots,
            self.comm_keys,
            self.lefts,
        )

    def counts(self) -> dict[str, int]:
        """Number of events by label."""
        totals: dict[str, int] = {}
        for label, count in zip(self.labels, self.heads[:, Head.COUNT].tolist(), strict=False):
            if count:
                totals[label] = totals.get(label, 0) + count
        return totals

    def resolve(self, status: int, work: NDArray[np.int64]) -> None:
        """Answer what the scanner asked for.

        Raises
        ------
        HmtraceError
            If the text has more different heads or task names than any trace.
        """
        begin, end = int(work[Cell.BEGIN]), int(work[Cell.FINISH])
        if status == Status.UNKNOWN_HEAD and work[Cell.SPACE] == Space.STACK:
            work[Cell.STACKS] = not self._add_stack(begin, end)
        elif status == Status.UNKNOWN_HEAD:
            self._add_head(begin, end, int(work[Cell.SPACE]))
        elif status == Status.UNKNOWN_ARGUMENT:
            self._add_argument(int(work[Cell.HEAD]), begin, end)
        else:
            self._add_comm(begin, end)

    def _add_head(self, begin: int, end: int, space: int) -> None:
        text = self.buf[begin : min(end, begin + 4096)].tobytes()
        if len(self.labels) >= MAX_HEADS:
            raise self._too_many("events", MAX_HEADS, begin)
        if space == Space.SITE:
            site = self.names.site(self.names.shown(text.decode("utf-8", "replace")))
            self._insert_head(begin, end, space, (PLAIN, site, 0), "")
            return
        meaning = self.names.meaning(space, text)
        kind = meaning.kind
        if kind == PLAIN_NAME:
            end = begin + text.index(b":") + 1
        site = self.names.site(meaning.site)
        self._insert_head(begin, end, space, (kind, site, meaning.caller), meaning.label)

    def _add_stack(self, begin: int, end: int) -> bool:
        """Add a stack trace, 0 for one without a frame; False where there are too many."""
        number = self.names.stack(self.buf[begin:end].tobytes())
        if number is None:
            return False
        self._insert_head(begin, end, Space.STACK, (PLAIN, number, 0), "")
        return True

    def _insert_head(
        self, begin: int, end: int, space: int, what: tuple[int, int, int], label: str
    ) -> None:
        i = len(self.labels)
        if i == len(self.heads):
            self.heads = _doubled(self.heads)
            self.hashes = _doubled(self.hashes)
        kind, site, caller = what
        self.labels.append(label)
        row = self.heads[i]
        row[[Head.REF, Head.LENGTH, Head.SPACE]] = begin, end - begin, space
        row[[Head.KIND, Head.SITE]] = kind, site
        row[Head.CALLER] = np.uint64(caller).astype(np.int64)
        row[[Head.FIRST_ARG, Head.ARGS, Head.COUNT]] = self._args, 0, 0
        self.hashes[i] = _hash(self.buf[begin:end].tobytes(), space)
        if 2 * (i + 1) > len(self.slots):
            self.slots = np.full(4 * len(self.slots), -1, np.int32)
            for k in range(i):
                self._place_head(k)
        self._place_head(i)

    def _place_head(self, i: int) -> None:
        mask = len(self.slots) - 1
        at = (int(self.hashes[i]) >> 20) & mask
        while self.slots[at] >= 0:
            at = (at + 1) & mask
        self.slots[at] = i

    def _add_argument(self, head: int, begin: int, end: int) -> None:
        """Append an argument to a head; its arguments stay contiguous."""
        row = self.heads[head]
        first, count, kind = int(row[Head.FIRST_ARG]), int(row[Head.ARGS]), int(row[Head.KIND])
        if first + count != self._args:  # others follow: move to the end
            moved = self.args[first : first + count].copy()
            first = self._args
            for entry in moved:
                self._append(entry)
            row[Head.FIRST_ARG] = first
        name = self.buf[begin : min(end, begin + 256)].tobytes().decode("utf-8", "replace")
        slot = None
        if kind not in (PLAIN, PLAIN_NAME, FUNCTION_EVENT):
            slot = slot_of(kind >> 1, name, is_return=bool(kind & 1))
        self._append(np.array([begin, end - begin, -1 if slot is None else slot], np.int64))
        row[Head.ARGS] = count + 1

    def _append(self, entry: NDArray[np.int64]) -> None:
        if self._args == len(self.args):
            self.args = _doubled(self.args)
        self.args[self._args] = entry
        self._args += 1

    def _add_comm(self, begin: int, end: int) -> None:
        if self._comms >= MAX_COMMS:
            raise self._too_many("task names", MAX_COMMS, begin)
        raw = self.buf[max(begin, end - 16) : end].tobytes().rjust(16)
        first, second = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
        number = self.names.comm(raw.decode("utf-8", "replace").lstrip(" "))
        i = self._comms
        if i == len(self.comm_keys):
            self.comm_keys = _doubled(self.comm_keys)
        self.comm_keys[i] = first, second, number
        self._comms += 1
        if 2 * self._comms > len(self.comm_slots):
            self.comm_slots = np.full(4 * len(self.comm_slots), -1, np.int32)
            for k in range(i):
                self._place_comm(k)
        self._place_comm(i)

    def _place_comm(self, i: int) -> None:
        mask = len(self.comm_slots) - 1
        at = _comm_hash(int(self.comm_keys[i, 0]), int(self.comm_keys[i, 1])) & mask
        while self.comm_slots[at] >= 0:
            at = (at + 1) & mask
        self.comm_slots[at] = i

    def _too_many(self, what: str, limit: int, offset: int) -> HmtraceError:
        return HmtraceError(
            f"more than {limit} different {what}",
            source=self.source,
            offset=offset,
            hint="no kernel's trace looks like this: is the file damaged?",
        )


def _hash(text: bytes, salt: int) -> int:
    """As :func:`collectors.text.words.hash_bytes`, which would have to be compiled for this."""
    h = ((len(text) + (salt << 40)) * _K) & _MASK
    for begin in range(0, len(text), 64):
        for k in range(8):
            word = text[begin + 8 * k : min(begin + 8 * k + 8, begin + 64)]
            h += int.from_bytes(word, "little") * (_K * (2 * k + 1) & _MASK)
        h &= _MASK
        h = ((h ^ h >> 32) * _K) & _MASK
        h ^= h >> 29
    return h


def _comm_hash(first: int, second: int) -> int:
    """As :func:`collectors.text.rows.comm_hash`."""
    h = ((first ^ (second * _K & _MASK)) * 0xD6E8FEB86659FD93) & _MASK
    return h >> 33


def _doubled(array: NDArray[Any]) -> NDArray[Any]:
    """Copy of an array with twice the rows."""
    return np.concatenate([array, np.zeros_like(array)])
