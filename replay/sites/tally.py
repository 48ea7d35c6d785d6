"""Call sites of every API: how many calls, by how many tasks, how long their mappings last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.events import OP_CODE, Ctx
from replay.local.wrong import NO_WRONG
from replay.outcome import HoldHistogram, Site
from replay.times import BINS, histogram
from replay.trace.carried import CarriedRows
from replay.trace.columns import filled, has, op_codes, whole
from replay.trace.numbering import Numbering
from replay.trace.told import NO_ROW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.local.wrong import WrongUnmaps
    from replay.sites.loops import Counts, Rows, Waiting

UNKNOWN_SITE: Final = "(not traced)"
MOST_OPEN: Final = 1 << 18
"""kmap() calls that are remembered until their own task calls kunmap() for the page."""


class SitePiece(NamedTuple):
    """What a piece told of sites.

    Attributes
    ----------
    member : ndarray of int32
        Per row the number of its key with its task, -1 where nobody asked.
    key, page_number : ndarray of int32
    hold : ndarray of int64
        Key, page and holding time of each kmap() whose kunmap() came.
    local_key : ndarray of int32
        Key of each local mapping that ended; -1: without a holding time.
    """

    member: NDArray[np.int32]
    key: NDArray[np.int32]
    page_number: NDArray[np.int32]
    hold: NDArray[np.int64]
    local_key: NDArray[np.int32]


class _Gone(NamedTuple):
    """kmap() calls whose kunmap() came."""

    key: NDArray[np.int32]
    page_number: NDArray[np.int32]
    hold: NDArray[np.int64]


class SiteTally:
    """Counts the calls of every site, piece by piece.

    Parameters
    ----------
    page_size
        Bytes.

    Attributes
    ----------
    forgotten
        kmap() calls whose holding time is not known because too many were open.
    """

    def __init__(self, page_size: int) -> None:
        self.forgotten = 0
        self._page_size = page_size
        self._names = SiteNames()
        self._counts = _no_counts(0)
        self._members = Numbering()  # keys with their tasks
        self._waiting: Waiting | None = None
        self._local_keys = CarriedRows()
        self._times = {api: np.zeros(BINS, np.int64) for api in ("kmap", "kmap_local")}
        self._handed: dict[int, int] = {}  # keys of rows whose mapping another task unmapped

    def feed(
        self,
        events: pl.DataFrame,
        first_row: int,
        ended: NDArray[np.int64],
        hold_ns: NDArray[np.int64],
        open_rows: NDArray[np.int64],
        page_numbers: NDArray[np.int32] | None = None,
        wrong: WrongUnmaps = NO_WRONG,
    ) -> SitePiece:
        """Count a piece of the event table.

        Parameters
        ----------
        events
            Sorted by `seq`, behind everything before.
        first_row
            Number of its first row.
        ended, hold_ns
            Rows of the local mappings that ended in it, of this piece or earlier ones, and how
            long they were held; a time below 0 is none.
        open_rows
            Rows of the local mappings that are open at its end.
        page_numbers
            Number of each row's page, to be told with the holding times of kmap() calls.
        wrong
            Unmaps of local mappings that are wrong.
        """
        from replay.sites.loops import count_calls, count_holds, count_times

        op = op_codes(events)
        if page_numbers is None:
            page_numbers = np.zeros(len(op), np.int32)
        rows = self._rows(events, op, page_numbers)
        self._make_room()
        waiting, until = self._with_room(int((op == OP_CODE["kmap"]).sum()))
        members, fresh = self._members.with_room(len(op))
        keys, member = np.empty((2, len(op)), np.int32)
        until = count_calls(rows, self._counts, waiting, until, members, fresh, keys, member)
        gone = self._keep_waiting(waiting, until)
        self._local_keys.take(keys, first_row)
        local = np.where(hold_ns >= 0, self._local_keys.of(ended), -1)
        count_holds(self._counts, gone.key, gone.hold)
        count_holds(self._counts, local, hold_ns)
        count_times(self._times["kmap"], gone.key, gone.hold)
        count_times(self._times["kmap_local"], local, hold_ns)
        self._take_wrong(wrong, ended)
        self._local_keys.keep(open_rows)
        return SitePiece(member, gone.key, gone.page_number, gone.hold, local)

    def hold_times(self) -> tuple[HoldHistogram, ...]:
        """How long mappings were held, by API; of none that has no known time."""
        found = ((api, int(times.sum()), times) for api, times in self._times.items())
        return tuple(HoldHistogram(api, held, histogram(t)) for api, held, t in found if held)

    def _take_wrong(self, wrong: WrongUnmaps, ended: NDArray[np.int64]) -> None:
        """Count the mappings that wrong unmaps meant."""
        from replay.local.loops import ELSEWHERE, NOT_NEWEST, STRAY

        meant = wrong.owner_row != NO_ROW
        if meant.any():
            rows, kinds = wrong.owner_row[meant], wrong.kind[meant]
            keys = self._local_keys.of(rows)
            late = keys[(kinds == NOT_NEWEST) & (keys >= 0)]
            np.add.at(self._counts.misordered, late, 1)
            handed = ((kinds == STRAY) | (kinds == ELSEWHERE)) & (keys >= 0)
            self._handed |= zip(rows[handed].tolist(), keys[handed].tolist(), strict=True)
        if self._handed:
            for row in set(self._handed).intersection(ended.tolist()):
                del self._handed[row]  # its own task unmapped it: the other's was a stray one

    def _rows(
        self, events: pl.DataFrame, op: NDArray[np.uint8], page_numbers: NDArray[np.int32]
    ) -> Rows:
        """The columns that are counted."""
        from replay.sites.loops import NEVER, NO_NUMBER, NO_TASK, Rows

        asked, told = self._asked(events)
        return Rows(
            op=op,
            site=self._names.numbers(events),
            pid=whole(events, "pid", NO_TASK),
            page=whole(events, "page", NO_NUMBER),
            has_page=has(events, "page"),
            seq=whole(events, "seq", 0),
            ts=whole(events, "ts", 0),
            end_seq=whole(events, "end_seq", NO_NUMBER),
            end_ts=whole(events, "end_ts", NEVER),
            page_number=page_numbers,
            asked=asked,
            told=told,
            ctx=filled(events.get_column("ctx"), int(Ctx.UNKNOWN)),
        )

    def _asked(self, events: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Bytes that the calls ask for, and which of them told; empty where none did."""
        size, pages = events.get_column("size"), events.get_column("pages")
        if size.null_count() == pages.null_count() == events.height:
            return np.zeros(0, np.float64), np.zeros(0, np.bool_)
        asked = pl.select(size.fill_null(pages * self._page_size)).to_series()
        told = asked.is_not_null().to_numpy()
        return asked.fill_null(0).cast(pl.Float64).to_numpy(), told

    def _make_room(self) -> None:
        """Make room for the sites there are."""
        from replay.sites.loops import APIS, Counts

        keys = len(self._names) * len(APIS)
        have = len(self._counts.calls)
        if keys > have:
            more = _no_counts(2 * keys - have)
            joined = zip(self._counts, more, strict=True)
            self._counts = Counts(*(np.concatenate(both) for both in joined))

    def _with_room(self, more: int) -> tuple[Waiting, int]:
        """The calls that wait, with room for `more`, and how many there are."""
        from replay.sites.loops import FREE, Waiting, put_in_buckets

        until = 0 if self._waiting is None else len(self._waiting.pid)
        room = until + more
        columns = {name: np.empty(room, dtype) for name, dtype in _WAITING.items()}
        hold = np.empty(room, np.int64)
        if self._waiting is not None:
            for name, column in columns.items():
                column[:until] = getattr(self._waiting, name)
        heads = np.full(1 << (2 * room).bit_length(), FREE, np.int32)
        below = np.full(room, FREE, np.int32)
        waiting = Waiting(**columns, hold=hold, below=below, heads=heads)
        put_in_buckets(waiting, until)
        return waiting, until

    def _keep_waiting(self, waiting: Waiting, until: int) -> _Gone:
        """Keep the calls that still wait, the last ones if they are too many; return the others."""
        from replay.sites.loops import GONE

        is_gone = waiting.below[:until] == GONE
        left, gone = np.flatnonzero(~is_gone), np.flatnonzero(is_gone)
        if len(left) > MOST_OPEN:
            self.forgotten += len(left) - MOST_OPEN
            left = left[np.argsort(waiting.at[left], kind="stable")[-MOST_OPEN:]]
        kept = {name: getattr(waiting, name)[left] for name in _WAITING}
        self._waiting = waiting._replace(**kept)
        return _Gone(waiting.key[gone], waiting.page_number[gone], waiting.hold[gone])

    def remarks(self) -> tuple[str, ...]:
        """What was left out, in words."""
        if not self.forgotten:
            return ()
        return (
            f"{self.forgotten} kmap() calls wait in vain for a kunmap() of their own task: their "
            "holding times are left out",
        )

    @property
    def counts(self) -> Counts:
        """Figures by key."""
        handed = np.zeros_like(self._counts.handed)
        np.add.at(handed, np.array([*self._handed.values()], np.int64), 1)
        return self._counts._replace(handed=handed)

    @property
    def names(self) -> tuple[str, ...]:
        """The sites by their numbers."""
        return self._names.all()

    @property
    def member_keys(self) -> NDArray[np.int32]:
        """Key of each member."""
        keys = self._members.keys() >> np.uint64(32)
        return keys.astype(np.int32)

    def sites(self) -> tuple[Site, ...]:
        """The sites, most calls first."""
        return sites_of(self._counts, self.names)


def sites_of(counts: Counts, names: Sequence[str]) -> tuple[Site, ...]:
    """Figures by key as sites, most calls first; `names` are those of the sites by number."""
    from replay.sites.loops import APIS

    total = int(counts.calls.sum())
    rows = [
        Site(
            site=names[key // len(APIS)],
            op=APIS[key % len(APIS)],
            count=int(counts.calls[key]),
            tasks=int(counts.tasks[key]),
            share=int(counts.calls[key]) / total,
            hold_ns_mean=float(counts.total[key]) / held if held else None,
            hold_ns_max=int(counts.longest[key]) if held else None,
            bytes=int(counts.asked[key]) if counts.told[key] else None,
        )
        for key in np.flatnonzero(counts.calls).tolist()
        for held in (int(counts.held[key]),)
    ]
    return tuple(sorted(rows, key=lambda row: (-row.count, row.site, row.op)))


class SiteNames:
    """Numbers call sites by their text."""

    def __init__(self) -> None:
        self._numbers = {UNKNOWN_SITE: 0}
        self._texts = [UNKNOWN_SITE]
        self._of_code = np.zeros(0, np.int32)  # by polars' own numbers of categories
        self._kept = pl.Series([], dtype=pl.Categorical())  # as long as it lives, those stay

    def __len__(self) -> int:
        return len(self._texts)

    def all(self) -> tuple[str, ...]:
        """Sites by their numbers."""
        return tuple(self._texts)

    def numbers(self, events: pl.DataFrame) -> NDArray[np.int32]:
        """Number of the site of each row.

        A caller without a symbol (of a module loaded after kallsyms was read) is an address.
        """
        site, caller = events.get_column("site"), events.get_column("caller")
        if site.null_count() == len(site):
            numbers = np.zeros(len(site), np.int32)
        else:
            numbers = self._of_codes(site)
        if not site.null_count() or caller.null_count() == len(caller):
            return numbers
        wanted = (site.is_null() & caller.is_not_null()).to_numpy()
        if wanted.any():
            numbers[wanted] = self._of_callers(whole(events, "caller", 0)[wanted])
        return numbers

    def _of_codes(self, site: pl.Series) -> NDArray[np.int32]:
        """Numbers of the sites that there are, 0 for the others."""
        from replay.sites.loops import NO_CODE, look_up

        codes = filled(site.to_physical(), NO_CODE)
        codes.setflags(write=False)  # as polars' own are: one kind of argument for the loop
        numbers = np.empty(len(codes), np.int32)
        if not look_up(codes, self._of_code, numbers):
            new = np.flatnonzero(numbers < 0)
            code, first = np.unique(codes[new], return_index=True)
            # numbered as they come, for polars' numbers are others in another process
            come = np.argsort(first)
            code, first = code[come], first[come]
            fresh = site.gather(new[first])
            self._kept = pl.concat([self._kept, fresh.head(1)]).head(1)
            known = np.full(max(len(self._of_code), int(code.max()) + 1), -1, np.int32)
            known[: len(self._of_code)] = self._of_code
            known[code] = [self._number(text) for text in fresh.cast(pl.String)]
            self._of_code = known
            look_up(codes, known, numbers)
        return numbers

    def _of_callers(self, caller: NDArray[np.int64]) -> NDArray[np.int32]:
        """Numbers of addresses."""
        numbering = Numbering()
        own = numbering.of(caller)
        texts = (f"{address:#010x}" for address in numbering.keys().tolist())
        return np.array([self._number(text) for text in texts], np.int32)[own]

    def _number(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self._texts))
        if number == len(self._texts):
            self._texts.append(text)
        return number


_WAITING: Final = {
    "pid": np.int32,
    "page": np.int64,
    "at": np.int64,
    "since": np.int64,
    "key": np.int32,
    "page_number": np.int32,
}
"""What is known of a kmap() that waits: columns of :class:`replay.sites.loops.Waiting`."""


def _no_counts(keys: int) -> Counts:
    from replay.sites.loops import Counts

    types = {"asked": np.float64, "total": np.float64}
    return Counts(*(np.zeros(keys, types.get(name, np.int64)) for name in Counts._fields))
