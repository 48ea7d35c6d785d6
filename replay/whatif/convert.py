"""Some kmap() calls as kmap_local_page().

A slot of the pool is anybody's, for as long as somebody likes: kmap() sleeps until there is one,
and whoever has the page may call kunmap(). A local mapping is its task's own, on its CPU, the
newest is unmapped first, and there are no more than KM_MAX_IDX of them
(Documentation/mm/highmem.rst). The trace tells who unmapped what, and when, so it tells which call
sites keep to that.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from collectors.errors import HmtraceError
from collectors.records import dataclass
from replay.machine.options import conversion_of
from replay.trace.parts import Parts
from replay.whatif.turns import TASKS, knows_holders, turns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from replay.whatif.loops.convert import ConversionCounts
    from replay.whatif.workload import Stretch, Workload

FROM, TO = "kmap", "kmap_local"
UNKNOWN_TASK: Final = -1
_SIZE: Final = re.compile(r"(?<=0x)([0-9a-f]{1,16})/0x[0-9a-f]{1,16}")
_CLONE: Final = re.compile(r"(?:\.(?:isra|constprop|part|cold)(?:\.\d{1,6})?){1,4}")


class FirstCase(NamedTuple):
    """The first mapping of which something is so: when it was made, and by which task."""

    ts: int
    pid: int


@dataclass(frozen=True)
class ConvertedSite:
    """What becomes of a call site's mappings.

    Attributes
    ----------
    site
        The call site; empty: kmap_local_page() calls that had found a mapping of the pool.
    calls, ended
        Mappings, and how many were unmapped.
    max_depth
        Local mappings that a task has at once, at most, while it has one of this site.
    depths
        Mappings by how many lie below each, the deepest ones in the last of
        :data:`replay.whatif.loops.convert.LEVELS`.
    handed
        Unmapped by another task than the one that made them.
    misordered
        Not the newest one when it, or a local mapping below it, was unmapped.
    switched, switches, slept
        Held while their task lost its CPU; how often, in all; of the former those whose task went
        to uninterruptible sleep.
    moved, away
        Unmapped on another CPU; those or held while another task was seen on their CPU.
    at_end, never_served
        Held at the end of the trace; of them those whose kmap() has not returned.
    firsts
        By the name of an attribute the first case of it.
    """

    site: str
    calls: int
    ended: int
    max_depth: int
    depths: tuple[int, ...]
    handed: int
    misordered: int
    switched: int
    switches: int
    slept: int
    moved: int
    away: int
    at_end: int
    never_served: int
    firsts: dict[str, FirstCase]

    def beyond(self, limit: int) -> int:
        """Mappings for which a task has no room."""
        return sum(self.depths[limit:])

    def unfit(self, limit: int) -> int:
        """Mappings that would be wrong as local ones, at most: one may be so in two ways."""
        return min(self.handed + self.misordered + self.beyond(limit), self.calls)


@dataclass(frozen=True)
class Conversion:
    """What a conversion means.

    Attributes
    ----------
    words
        As it was asked for.
    sites
        Most calls first.
    total
        All kmap() calls of the trace.
    vanished
        Switches that go away because their task slept for a slot.
    strays
        Calls of kunmap() for what was mapped before the trace.
    dropped
        Mappings that were held when events were lost.
    nameless
        Converted calls of which the trace does not tell the task.
    sees_switches
        Whether the trace shows switches.
    """

    words: str
    sites: tuple[ConvertedSite, ...]
    total: int
    vanished: int
    strays: int
    dropped: int
    nameless: int
    sees_switches: bool

    def unfit(self, limit: int) -> int:
        """Mappings that would be wrong as local ones, at most; a task has room for `limit`."""
        return sum(site.unfit(limit) for site in self.sites)

    @property
    def away(self) -> int:
        """Mappings that were held over a switch that the trace does not show, at least."""
        return sum(max(site.away - site.switched, 0) for site in self.sites)


def chosen_sites(workload: Workload, asked: Sequence[str]) -> tuple[str, NDArray[np.bool_]]:
    """Which call sites a conversion is about.

    Parameters
    ----------
    workload
        The workload.
    asked
        What :func:`replay.machine.options.conversion_of` reads; a call site's name, or what only
        it begins with.

    Returns
    -------
    words, chosen : str, ndarray of bool, shape (keys,)
        By key of :mod:`replay.sites.loops`.

    Raises
    ------
    HmtraceError
        Exit code 2: no such site.
    """
    from replay.sites.loops import APIS

    api, names = APIS.index(FROM), workload.site_names
    chosen = np.zeros(len(names) * len(APIS), np.bool_)
    calls = workload.column("sites", "calls")[: chosen.size]
    used = [n for n in range(len(names)) if calls[n * len(APIS) + api]]
    for text in asked:
        site = conversion_of(text)
        wanted = _named(site, [names[n] for n in used]) if site else None
        for n in used:
            chosen[n * len(APIS) + api] |= wanted is None or names[n] == wanted
    return ", ".join(asked), chosen


def _forms(name: str) -> tuple[str, str, str]:
    """A call site as traces have it, without its function's size, and without what GCC adds."""
    short = _SIZE.sub(r"\1", name)
    return name, short, _CLONE.sub("", short)


def _named(site: str, names: Sequence[str]) -> str:
    """The name of the site that is meant."""
    if site in names:
        return site
    starts = [name for name in names if any(form.startswith(site) for form in _forms(name))]
    if len(starts) == 1:
        return starts[0]
    if starts:
        which = f"is the beginning of {len(starts)} sites"
        near = starts
    else:
        which = "is no site of the trace that calls kmap()"
        functions = {name.partition("+")[0]: name for name in names}
        close = difflib.get_close_matches(site.partition("+")[0], functions, 3, 0.4)
        near = [name for name in names if site.lower() in name.lower()]
        near = near or [functions[name] for name in close] or list(names)
    hint = f"did you mean {' or '.join(near[:3])}?" if near else "the trace has no call of kmap()"
    raise HmtraceError(f"--convert: {site!r} {which}", hint=hint, exit_code=2)


class ConvertedCalls:
    """A workload some of whose kmap() calls are kmap_local_page().

    Parameters
    ----------
    workload
        The workload.
    asked
        As for :func:`chosen_sites`.

    Attributes
    ----------
    outcome
        What it means.
    ended_pages : ndarray of int32
        Pages of the mappings that were unmapped.
    turned_reuses
        kmap_local_page() calls that find no mapping of the pool any more.

    Raises
    ------
    HmtraceError
        Exit code 2: the trace does not tell who unmaps, or as :func:`chosen_sites`.
    """

    def __init__(self, workload: Workload, asked: Sequence[str]) -> None:
        from replay.sites.loops import APIS

        self._workload = workload
        words, self._chosen = chosen_sites(workload, asked)
        if workload.found.ops.get(FROM) and not knows_holders(workload.found):
            raise HmtraceError(
                "the trace has no call of kunmap(): how long mappings are held, and by whom, is "
                "not known",
                hint="capture with a probe on kunmap_high() as well: docs/capture.md",
                exit_code=2,
            )
        if not workload.can_convert:
            raise HmtraceError(
                "the workload was kept without what a conversion needs: who holds which mapping",
                hint="ask hmtrace replay --convert of the trace itself: it is sifted and kept then",
            )
        self.is_all = bool(self._chosen[APIS.index(FROM) :: len(APIS)].any()) and all(
            "@" not in text for text in asked
        )
        self._gone = np.zeros(workload.found.rows, np.bool_)
        self._parts = Parts()
        self._late = _no_elements()  # of windows before that in which they came up
        self.ended_pages = np.zeros(0, np.int32)
        self.turned_reuses = 0
        self.outcome = self._follow(words)

    def is_gone(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """Which calls of the pool are none any more."""
        return self._gone[rows]

    def members(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Number of each member as of its new operation; keys of the members that are new."""
        from replay.sites.loops import APIS

        keys = self._workload.column("members", "key")
        number = np.arange(keys.size, dtype=np.int32)
        which = np.flatnonzero(self._chosen[keys])
        number[which] = keys.size + np.arange(which.size)
        return number, (keys[which] + APIS.index(TO) - APIS.index(FROM)).astype(np.int32)

    def keys(self, key: NDArray[np.int32]) -> NDArray[np.int32]:
        """Call sites with their new operations; -1 stays."""
        from replay.sites.loops import APIS

        is_chosen = (key >= 0) & np.append(self._chosen, False)[key]
        return np.where(is_chosen, key + APIS.index(TO) - APIS.index(FROM), key).astype(np.int32)

    def held(self, stretch: Stretch, window: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The tables `held` and `below` of a window with what is converted."""
        if not knows_holders(self._workload.found):
            return stretch.held, stretch.below
        elements = self._parts.get(f"elements-{window}")
        under = self._parts.get(f"under-{window}")
        late, under_late = self._late
        if not elements.height + late.height:
            return stretch.held, stretch.below
        return _with_elements(stretch, pl.concat([elements, late]), pl.concat([under, under_late]))

    def _follow(self, words: str) -> Conversion:
        """Follow the turns."""
        from replay.whatif.loops import convert as kernel
        from replay.whatif.loops.holding import MAP, STRAYS, UNMAP, new_open, with_room

        workload = self._workload
        found = workload.found
        sees_switches = "switch" in found.ops
        held, ended = new_open(), [np.zeros(0, np.int32)]
        pids = np.zeros(0, np.int64)
        told, nameless = _new_found(self._chosen.size), 0
        if knows_holders(found):
            turns_here = workload.turns
            assert turns_here is not None  # was looked at
            pids = turns_here.get(TASKS).get_column("task").to_numpy()
            pages = workload.column("pages", "key").size
            for window in range(workload.windows):
                turns = turns_of(turns_here, window)
                more = turns.kind.size
                held = with_room(held, more, pids.size, pages)
                cpus = int(turns.cpu.max(initial=0)) + 1
                told = _with_room(told, more, pids.size, cpus)
                kernel.convert(
                    turns, held, self._chosen, told, sees_switches, "sched_out" in found.ops,
                    self.is_all,
                )  # fmt: skip
                gone = np.flatnonzero(told.gone)
                self._gone[turns.row[gone]] = True
                kind = turns.kind[gone]
                tasks = turns.task[gone][kind == MAP]
                nameless += int((pids[tasks] == UNKNOWN_TASK).sum())
                ended.append(turns.page[gone][kind == UNMAP])
                self._put(window, told)
            kernel.count_open(held, told)
        self.ended_pages = np.concatenate(ended)
        self.turned_reuses = int(told.number[-1, kernel.CALLS])
        return Conversion(
            words=words,
            sites=_sites(told, workload.site_names, pids),
            total=found.ops.get(FROM, 0),
            vanished=int(told.reg[kernel.VANISHED]),
            strays=int(held.reg[STRAYS]),
            dropped=int(told.reg[kernel.DROPPED]),
            nameless=nameless,
            sees_switches=sees_switches,
        )

    def _put(self, window: int, told: ConversionCounts) -> None:
        """Write down what a window's mappings come to lie on."""
        from replay.whatif.loops.convert import ABOVE, ELEMENTS

        number = int(told.reg[ELEMENTS])
        stop = told.stop[:number]
        columns = {
            name: getattr(told, name)[:number] for name in ("kind", "page", "row", "depth", "cpu")
        }
        named = int(stop[-1]) if number else 0
        table = pl.DataFrame(columns | {"below": np.diff(stop, prepend=0)})
        under = pl.DataFrame({"page": told.below[:named], "key": told.below_key[:named]})
        is_late = columns["kind"] == ABOVE
        if is_late.any():
            held = self._workload.parts.get(f"held-{window}").filter("is_map")
            is_late &= ~np.isin(columns["row"], held.get_column("row").to_numpy())
        if is_late.any():
            # one that an interrupt pushed for it: noted in a window before its own
            of_late = np.repeat(is_late, table.get_column("below").to_numpy())
            late, under_late = self._late
            self._late = (
                pl.concat([late, table.filter(is_late)]),
                pl.concat([under_late, under.filter(of_late)]),
            )
            table, under = table.filter(~is_late), under.filter(~of_late)
        self._parts.put(f"elements-{window}", table)
        self._parts.put(f"under-{window}", under)


def _no_elements() -> tuple[pl.DataFrame, pl.DataFrame]:
    """No elements, and no pages below them."""
    types = {"kind": pl.UInt8, "page": pl.Int32, "row": pl.Int64, "depth": pl.Int32}
    types |= {"cpu": pl.Int32, "below": pl.Int64}
    return pl.DataFrame(schema=types), pl.DataFrame(schema={"page": pl.Int32, "key": pl.Int32})


def _new_found(keys: int) -> ConversionCounts:
    """Nothing is found."""
    from replay.whatif.loops import convert as kernel
    from replay.whatif.loops.holding import NONE

    none = np.zeros(0, np.int64)
    number, since, who = np.zeros((3, keys + 1, kernel.FIGURES), np.int64)
    deepest = np.full((keys + 1, 3), NONE, np.int64)
    return kernel.ConversionCounts(
        number=number, since=since, who=who, deepest=deepest,
        depths=np.zeros((keys + 1, kernel.LEVELS), np.int64),
        converted=none, local=none, on=none, epoch=none,
        reg=np.zeros(kernel.DROPPED + 1, np.int64),
        kind=np.zeros(0, np.uint8), page=np.zeros(0, np.int32), row=none,
        depth=np.zeros(0, np.int32),
        cpu=np.zeros(0, np.int32), stop=none, below=np.zeros(0, np.int32),
        below_key=np.zeros(0, np.int32),
        gone=np.zeros(0, np.bool_),
    )  # fmt: skip


def _with_room(told: ConversionCounts, turns: int, tasks: int, cpus: int) -> ConversionCounts:
    """The same with room for the elements of a window, of which there is none yet."""
    from replay.whatif.loops import convert as kernel
    from replay.whatif.loops.holding import NONE

    told.reg[kernel.ELEMENTS] = told.reg[kernel.NAMED_BELOW] = 0
    sizes = {"converted": tasks, "local": tasks, "on": cpus, "epoch": cpus}
    empty = {"converted": 0, "local": 0, "on": NONE, "epoch": 0}
    grown: dict[str, Any] = {}
    for name, size in sizes.items():
        have = getattr(told, name)
        more = np.full(max(size - have.size, 0), empty[name], np.int64)
        grown[name] = np.concatenate([have, more])
    return told._replace(
        **grown,
        kind=np.empty(turns, np.uint8), page=np.empty(turns, np.int32),
        row=np.empty(turns, np.int64),
        depth=np.empty(turns, np.int32), cpu=np.empty(turns, np.int32),
        stop=np.empty(turns, np.int64), below=np.empty(turns * kernel.LEVELS, np.int32),
        below_key=np.empty(turns * kernel.LEVELS, np.int32),
        gone=np.zeros(turns, np.bool_),
    )  # fmt: skip


def _sites(
    told: ConversionCounts, names: Sequence[str], pids: NDArray[np.int64]
) -> tuple[ConvertedSite, ...]:
    """Figures by call site."""
    from replay.sites.loops import APIS
    from replay.whatif.loops import convert as kernel

    columns = {
        "handed": kernel.HANDED, "misordered": kernel.MISORDERED, "switched": kernel.SWITCHED,
        "slept": kernel.SLEPT, "moved": kernel.MOVED, "away": kernel.AWAY,
        "at_end": kernel.AT_END, "never_served": kernel.NEVER_SERVED,
    }  # fmt: skip
    sites = []
    for key in np.flatnonzero(told.number[:, kernel.CALLS]).tolist():
        count = told.number[key].tolist()
        firsts = {
            name: FirstCase(int(told.since[key, at]), _pid(pids, int(told.who[key, at])))
            for name, at in columns.items()
            if count[at]
        }
        deepest = told.deepest[key].tolist()
        firsts["depths"] = FirstCase(deepest[1], _pid(pids, deepest[2]))
        site = ConvertedSite(
            site=names[key // len(APIS)] if key < told.number.shape[0] - 1 else "",
            calls=count[kernel.CALLS],
            ended=count[kernel.ENDED],
            max_depth=deepest[0] + 1,
            depths=tuple(np.trim_zeros(told.depths[key], "b").tolist()),
            switches=count[kernel.SWITCHES],
            firsts=firsts,
            **{name: count[at] for name, at in columns.items()},
        )
        sites.append(site)
    return tuple(sorted(sites, key=lambda site: (-site.calls, site.site)))


def _pid(tasks: NDArray[np.int64], task: int) -> int:
    """A task's pid, 0 of an idle one."""
    key = int(tasks[task]) if task >= 0 else UNKNOWN_TASK
    return 0 if key < UNKNOWN_TASK else key


def _with_elements(
    stretch: Stretch, elements: pl.DataFrame, under: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A window's `held` and `below` with the converted mappings: more of them, and below others."""
    from replay.whatif.loops.convert import ABOVE, AT_SWITCH, OWN

    was = {c.name: c.to_numpy() for c in stretch.held}
    new = {c.name: c.to_numpy() for c in elements}
    size, kind = was["row"].size, new["kind"]
    here = was["row"].astype(np.int64)
    at = _places(
        np.where(was["is_map"], here, ~here), np.where(kind == AT_SWITCH, ~new["row"], new["row"])
    )
    at[kind == OWN] = -1
    of_known = np.flatnonzero(at >= 0)
    added = np.flatnonzero((at < 0) & (kind != ABOVE))
    owner = at.copy()
    owner[added] = size + np.arange(added.size)
    depth, below = was["depth"].copy(), was["below"].astype(np.int64)
    depth[at[of_known]] += new["depth"][of_known]
    below[at[of_known]] += new["below"][of_known]
    owners = np.repeat(owner, new["below"])
    kept = owners >= 0
    owners = np.concatenate([np.repeat(np.arange(size), was["below"]), owners[kept]])
    order = np.argsort(owners, kind="stable")
    below_them = pl.concat([stretch.below, under.filter(pl.Series(kept))])[order]
    held = {
        "page": np.append(was["page"], new["page"][added]),
        "depth": np.append(depth, new["depth"][added]),
        "cpu": np.append(was["cpu"], new["cpu"][added]),
        "below": np.append(below, new["below"][added]).astype(np.uint16),
        "is_map": np.append(was["is_map"], kind[added] == OWN),
        "row": np.append(was["row"], new["row"][added].astype(np.uint32)),
        "key": np.append(was["key"], np.full(added.size, -1, np.int32)),
    }
    return pl.DataFrame(held), below_them


def _places(here: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Place of each row among others, -1 where it is not one of them."""
    if not here.size:
        return np.full(rows.size, -1, np.int64)
    order = np.argsort(here, kind="stable")
    place = np.minimum(np.searchsorted(here[order], rows), here.size - 1)
    return np.where(here[order][place] == rows, order[place], -1)


def conversion_caveats(calls: ConvertedCalls, limit: int) -> list[str]:
    """What the trace does not tell of a conversion; `limit` local mappings are a task's."""
    found, caveats = calls.outcome, []
    if not found.sites:
        return []
    wrong = found.unfit(limit)
    if wrong:
        caveats.append(
            f"{'up to ' * (wrong > 1)}{wrong} of the converted mappings would be wrong as local "
            "ones: the figures are those of a kernel that had room for them and took down what was "
            "meant"
        )
    if not found.sees_switches:
        caveats.append(
            "the trace shows no context switches: a mapping is known to be held over one only if "
            "it was unmapped on another CPU, or another task was seen on its own meanwhile; "
            "switches that take mappings down, and their flushes, are lower bounds"
        )
    if found.vanished and not calls.is_all:
        caveats.append(
            f"{found.vanished} sleeps for a slot go away, and what their tasks did later stays "
            "when it was, where it would come earlier: how the other calls of kmap() overlap with "
            "it may differ"
        )
    if found.nameless:
        caveats.append(
            f"of {found.nameless} converted calls the task is not known: they are taken for one "
            "task's, so their depth is an upper bound, and who hands mappings over is not known"
        )
    if found.strays:
        caveats.append(
            f"{found.strays} kunmap() calls end mappings from before the trace, which are not "
            "followed: depths may be more by those"
        )
    if found.dropped:
        caveats.append(
            f"{found.dropped} converted mappings were held when events were lost: what became of "
            "them is not known"
        )
    never = sum(site.never_served for site in found.sites)
    if never:
        caveats.append(
            f"{never} converted calls had not returned when the trace ended: what their tasks "
            "would have done with the mapping is not in it"
        )
    caveats.append(
        "that another task or an interrupt uses the address of a mapping, and does not unmap it, "
        "is in no trace of calls"
    )
    return caveats
