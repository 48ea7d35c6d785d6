"""What a capture lacks to be replayed exactly, and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from collectors.probes import base_name
from hmtrace.report.caveats import bullets
from hmtrace.report.parts import heading
from hmtrace.report.text import count, plural, size, unglued
from replay.rules import evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from collectors.capture import Lost
    from collectors.snapshot import Recording, Snapshot
    from hmtrace.report.contents import Contents

_RECORDER: Final = "hmtrace recorder"
_NEEDED: Final = (
    ("kmap", (("kmap_high", True), ("kunmap_high", False), ("flush_all_zero_pkmaps", False))),
    (
        "area_alloc",
        (
            ("alloc_vmap_area", True),
            ("free_vmap_area_noflush", False),
            ("__purge_vmap_area_lazy", False),
        ),
    ),
)
"""By an operation that the trace has: functions without which its replay guesses, and whether
their returns are needed."""
_LOCAL: Final = evidence.FUNCTIONS[evidence.LOCAL]
_CUT: Final = {
    "size": ("the recording ended at its greatest size", "a larger --max-size"),
    "buffer": (
        "the recording ended where a buffer was full, as text",
        "no --text, or a larger --buffer",
    ),
    "full": ("the disk was full: the end is missing", "-o on a disk with more room"),
}


class Lack(NamedTuple):
    """Something that a capture lacks, and how to get it."""

    what: str
    remedy: str


def lacks(contents: Contents, snapshot: Snapshot, lost: Lost) -> tuple[Lack, ...]:
    """What keeps a replay from being exact, the weightiest first.

    Parameters
    ----------
    contents
        From :func:`hmtrace.report.contents.survey`.
    snapshot
        What the machine's files say.
    lost
        What tracing lost.

    Returns
    -------
    tuple of Lack
        Empty where nothing is known to be lacking.
    """
    return (*_of_the_trace(contents, snapshot, lost), *_of_the_start(contents, snapshot))


def _of_the_trace(contents: Contents, snapshot: Snapshot, lost: Lost) -> Iterator[Lack]:
    gone = _gone(snapshot)
    recording = snapshot.recording
    if lost.intervals or gone:
        yield Lack(_losses(gone), _fewer_losses(recording))
    if recording is not None and recording.stopped in _CUT:
        yield Lack(*_CUT[recording.stopped])
    missed = _missed(snapshot)
    if missed:
        yield Lack(
            f"probes passed over {plural(missed, 'call')}",
            "return probes with r256; less load while it records",
        )
    unprobed = _unprobed(contents, snapshot)
    if unprobed:
        yield Lack(f"not probed: {', '.join(unprobed)}", f"the probes of {_RECORDER}")
    if contents.has("kmap") and not contents.has("switch"):
        yield Lack("who slept in kmap()", "the tracepoint sched:sched_switch")


def _gone(snapshot: Snapshot) -> dict[int, int]:
    """Events that a CPU's buffer did not keep, by the kernel's own count: overwritten, refused."""
    cpus = sorted({*snapshot.overrun, *snapshot.dropped})
    counts = {cpu: snapshot.overrun.get(cpu, 0) + snapshot.dropped.get(cpu, 0) for cpu in cpus}
    return {cpu: number for cpu, number in counts.items() if number}


def _losses(gone: dict[int, int]) -> str:
    if not gone:
        return "events were lost"
    whose = ", ".join(f"CPU {cpu} {count(number)}" for cpu, number in gone.items())
    return f"{plural(sum(gone.values()), 'event')} were lost, by the kernel's count: {whose}"


def _fewer_losses(recording: Recording | None) -> str:
    if recording is None or recording.buffer_kb is None:
        return f"larger buffers, or {_RECORDER} with --minimal"
    return f"--buffer of more than {size(recording.buffer_kb << 10)}, --minimal, or less load"


def _missed(snapshot: Snapshot) -> int:
    """Calls that their probe passed over, of functions that a replay cannot do without.

    vfree() is told by the area that is freed; and a return of alloc_vmap_area() without an area
    counts as missed on kernels up to 5.10 (:func:`collectors.facts.kprobes.parse_profile`).
    """
    needed = {name for _, functions in _NEEDED for name, _ in functions} | {*_LOCAL}
    return sum(
        snapshot.probe_misses.get(probe.event, 0)
        for probe in snapshot.probes
        if base_name(probe.symbol) in needed
        and not (probe.is_return and base_name(probe.symbol) == "alloc_vmap_area")
    )


def _unprobed(contents: Contents, snapshot: Snapshot) -> list[str]:
    """Functions that matter here and had no probe, though the kernel may have them."""
    if not snapshot.probes:
        return []
    absent = snapshot.recording.missing if snapshot.recording is not None else ()
    probed = {(base_name(probe.symbol), probe.is_return) for probe in snapshot.probes}
    found = []
    for op, functions in _NEEDED:
        if not contents.has(op):
            continue
        for function, returns in functions:
            if function in absent:
                continue
            if (function, False) not in probed:
                found.append(function)
            elif returns and (function, True) not in probed:
                found.append(f"the return of {function}")
    return found


def _of_the_start(contents: Contents, snapshot: Snapshot) -> Iterator[Lack]:
    recording = snapshot.recording
    if contents.has("area_alloc") and snapshot.arena_state is None:
        if not snapshot.areas:
            yield Lack(
                "the areas in use at the start",
                f"{_RECORDER}; by hand vmallocinfo as docs/capture.md reads it",
            )
        elif recording is not None and recording.agreed is False:
            yield Lack(
                "areas came and went while they were read", "begin in a moment with less load"
            )
    if contents.has("kmap") and snapshot.pool_state is None:
        yield Lack(
            "the pool's counters at the start, which its first calls tell",
            f"CONFIG_KALLSYMS_ALL and {_RECORDER}",
        )
    if not snapshot.config:
        yield Lack("the kernel's configuration", "the .config as `config` beside the trace")


def lacks_document(found: Sequence[Lack]) -> list[dict[str, str]]:
    """What is lacking as rows of a document."""
    return [{"what": unglued(lack.what), "remedy": unglued(lack.remedy)} for lack in found]


def lacks_section(found: Sequence[Lack]) -> Iterator[RenderableType]:
    """What is lacking as a list.

    Yields
    ------
    RenderableType
        Heading and lines; nothing where nothing is lacking.
    """
    if not found:
        return
    yield heading("What it lacks for an exact replay", "and how to get it")
    yield bullets([f"{lack.what}: {lack.remedy}" for lack in found])
