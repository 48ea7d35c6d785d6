"""Frees that reached the lazy list after a purge had taken it, found by what the kernel did later.

free_vmap_area_noflush() is traced where it begins; whether its area was on the list when a purge
took the list is not told where the two overlap in time. The flushed hull tells of areas outside
it only. An area that the model gives back too early is handed out by the model and not by the
kernel, or it changes the shape of the free tree, and with it the place of later requests. So where
a prediction is wrong, frees that may have been late are supposed to be, and the whole is replayed:
inference, counted among the calls that an observed address put in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from replay.arena.lazy import LazyReplay

MAX_SUSPECTS: Final = 256
"""Wrong predictions that one look for late frees goes through."""
MAX_GUESSES: Final = 16
"""Frees that are tried one by one for a wrong prediction of which nothing tells which it was."""
MAX_ROUNDS: Final = 100
ROUND_ROWS: Final = 1_000_000
"""Replays at most, and rows that they may go through."""
MAX_HULL_ROUNDS: Final = 8
"""Looks for frees that a later hull shows to have been late, each after what the last one found."""
FEW: Final = 64


class Replayed(Protocol):
    """A replay, as the search looks at it.

    Attributes
    ----------
    lazy
        The list, with the stream that it was made of.
    """

    lazy: LazyReplay

    def suspects(self) -> NDArray[np.int64]:
        """Wrong predictions, shape (n, 4), in order.

        Predicted and observed start (negative: failed), size, and end of the call's interval.
        """


R = TypeVar("R", bound=Replayed)


def find_late(
    play: Callable[[NDArray[np.int64]], R], stream: NDArray[np.int64], most_rows: int = ROUND_ROWS
) -> tuple[R, int]:
    """Replay, and again with frees that came late, while that explains more.

    Many wrong predictions are explained at once where that makes fewer of them and the first one
    no earlier; else the first one is explained alone.

    Parameters
    ----------
    play
        Replays a stream of frees and purges, and the allocations with it.
    stream
        For :func:`replay.arena.loops.lazy.run`.
    most_rows
        Rows that further replays may go through; one of them always may.

    Returns
    -------
    R
        The best replay.
    int
        Rows that are left of `most_rows`.
    """
    best = play(stream)
    rounds = allowed = min(MAX_ROUNDS, 1 + most_rows // (1 + len(stream)))
    too_many = FEW + len(stream) // 8  # something else is wrong with this trace
    given_up = -1  # no free explains wrong predictions up to this position
    seen: set[bytes] = {stream.tobytes()}
    while rounds > 0:
        wrong = best.suspects()
        ahead = wrong[wrong[:, -1] > given_up]
        ahead = ahead[np.argsort(ahead[:, -1], kind="stable")]
        if not len(ahead) or len(wrong) > too_many:
            break
        found = None
        for together, following in _options(best.lazy, ahead):
            key = following.tobytes()
            if rounds == 0 or key in seen:
                continue
            seen.add(key)
            rounds -= 1
            run = play(following)
            if _is_better(run, best, given_up, together=together):
                found = run
                break
        if found is None:
            given_up = int(ahead[0, -1])
        else:
            best = found
    return best, max(0, most_rows - (allowed - rounds) * (1 + len(stream)))


def hold_for_hulls(
    follow: Callable[[NDArray[np.int64]], LazyReplay], stream: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Frees that a later purge flushed, though an earlier one might have taken them.

    Parameters
    ----------
    follow
        Follows the list through a stream of frees and purges.
    stream
        For :func:`replay.arena.loops.lazy.run`.

    Returns
    -------
    ndarray of int64
        The stream with more in HOLD where that explains more hulls.
    """
    from replay.arena.loops.lazy import HOLD

    best = follow(stream)
    for _ in range(MAX_HULL_ROUNDS):
        late = _edges(best)
        if not late.size:
            break
        following = best.stream.copy()
        following[late, HOLD] = best.lazy.taken_by[late] + 1
        trial = follow(following)
        if trial.missed() >= best.missed():
            break
        best = trial
    return best.stream


def _edges(replay: LazyReplay) -> NDArray[np.int64]:
    """Frees of areas at the edge of a missed hull that an earlier purge has in the model."""
    from replay.arena.loops.lazy import END, HI, LO, SEEN_END, SEEN_START, START

    stream, taken = replay.stream, replay.lazy.taken_by
    frees = np.flatnonzero(taken >= 0)
    frees = frees[stream[frees, HI] > stream[taken[frees], LO]]
    found = []
    for purge in replay.of_purge[: replay.purges][replay.misses()].tolist():
        predicted = replay.lazy.purge[purge, 2:]
        for column, seen, here in (
            (START, stream[purge, SEEN_START], predicted[0]),
            (END, stream[purge, SEEN_END], predicted[1]),
        ):
            at_edge = frees[(stream[frees, column] == seen) & (taken[frees] < purge)]
            if seen != here and at_edge.size:
                found.append(int(at_edge[-1]))
    return np.array(sorted(set(found)), np.int64)


def _is_better(run: Replayed, best: Replayed, given_up: int, *, together: bool) -> bool:
    """Whether a replay explains more; `together`: of all predictions, else of the first one."""
    ours, theirs = run.suspects()[:, -1], best.suspects()[:, -1]
    first, before = (x[x > given_up].min(initial=1 << 62) for x in (ours, theirs))
    if (
        run.lazy.missed() > best.lazy.missed()
        or (ours <= given_up).sum() > (theirs <= given_up).sum()
    ):
        return False
    return bool(first >= before and len(ours) < len(theirs) if together else first > before)


def _options(
    replay: LazyReplay, wrong: NDArray[np.int64]
) -> Iterator[tuple[bool, NDArray[np.int64]]]:
    """Streams to try, the likeliest first, each with whether it explains many at once."""
    from replay.arena.loops.lazy import END, HI, HOLD, LO, START

    stream, taken = replay.stream, replay.lazy.taken_by
    frees = np.flatnonzero(taken >= 0)
    frees = frees[stream[frees, HI] > stream[taken[frees], LO]]
    frees = frees[np.lexsort((frees, taken[frees]))[::-1]]  # the latest first
    held = np.flatnonzero(stream[:, HOLD] > 0)[::-1]

    def inside(those: NDArray[np.int64], start: int, size: int) -> NDArray[np.bool_]:
        overlap = stream[those, START] < start + size
        below = stream[those, END] > start
        return np.asarray(overlap & below & (start >= 0), bool)

    def suspects(row: list[int]) -> NDArray[np.int64]:
        """Frees of what the model handed out and the kernel did not."""
        predicted, _, size, until = row
        before = stream[taken[frees], LO] < until
        return np.asarray(frees[inside(frees, predicted, size) & before], np.int64)

    def early(row: list[int]) -> NDArray[np.int64]:
        """Supposed to be late, but what the kernel handed out had reached the list in time."""
        _, seen, size, until = row
        before = stream[held, LO] < until
        return np.asarray(held[inside(held, seen, size) & before], np.int64)

    def changed(*, late: list[int], in_time: list[int]) -> NDArray[np.int64]:
        out = stream.copy()
        out[late, HOLD] = taken[late] + 1
        out[in_time, HOLD] = 0
        return out

    rows = wrong[:MAX_SUSPECTS].tolist()
    for many in (len(rows), max(1, len(rows) // 8)):
        late = {int(s[0]) for s in map(suspects, rows[:many]) if s.size}
        in_time = {int(f) for row in rows[:many] for f in early(row)}
        yield True, changed(late=sorted(late - in_time), in_time=sorted(in_time))
    first = rows[0]
    if early(first).size:
        yield False, changed(late=[], in_time=early(first).tolist())
    for free in suspects(first).tolist():
        yield False, changed(late=[free], in_time=[])
    frees = frees[stream[taken[frees], LO] < first[-1]]
    held = held[stream[held, LO] < first[-1]]
    for guess in range(MAX_GUESSES):
        if guess < frees.size:
            yield False, changed(late=[int(frees[guess])], in_time=[])
        if guess < held.size:
            yield False, changed(late=[], in_time=[int(held[guess])])
