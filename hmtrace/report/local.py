"""The kmap_local stacks: calls, depth per CPU, what context switches had to save."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.text import Text

from hmtrace.report.charts import Bar
from hmtrace.report.parts import Valued, heading, indented, joined, labelled, plain_table
from hmtrace.report.text import count, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from replay.outcome import LocalOutcome

_CPUS_SHOWN = 8
_DEPTHS_SHOWN = 4
_BAR_WIDTH = 16


def local_section(local: LocalOutcome, absent: str) -> Iterator[RenderableType]:
    """Everything about kmap_local_page() and kmap_atomic().

    Parameters
    ----------
    local
        Figures of the stacks.
    absent
        What to say where no local mapping is in the trace.

    Yields
    ------
    RenderableType
        Heading, figures, depth table.
    """
    yield heading("Local stacks", "kmap_local_page(), kmap_atomic()")
    if not local.maps and not local.lowmem:
        yield indented(Text(absent))
        return
    yield labelled(
        [
            (
                "calls",
                joined(
                    [
                        *_pages_in_words(local),
                        *([f"{count(local.reused)} found in the pool"] if local.reused else []),
                    ]
                ),
            ),
            ("depth", depth_in_words(local)),
            (
                "switches",
                f"{plural(local.saved_on_switch, 'context switch', 'context switches')} with "
                f"mappings held, {plural(local.mappings_saved, 'mapping')} taken out",
            ),
            ("TLB", f"{plural(local.tlb_single, 'single-entry flush', 'single-entry flushes')}"),
        ]
    )
    if any(local.depth_by_cpu.values()):
        yield indented(_depth_table(local.depth_by_cpu))


def _pages_in_words(local: LocalOutcome) -> list[str]:
    """Mappings by the class of their pages, as far as the trace tells."""
    if local.unknown and local.unknown == local.maps:
        return [f"{plural(local.maps, 'mapping')}, of highmem or lowmem: the trace has no pages"]
    shown = [
        f"{plural(local.maps - local.unknown, 'mapping')} of highmem pages",
        f"{count(local.lowmem)} of lowmem pages, without a slot",
    ]
    return [*shown, *([f"{count(local.unknown)} of unknown pages"] if local.unknown else [])]


def depth_in_words(local: LocalOutcome) -> str:
    """Deepest nesting beside the limit."""
    limit = f" of {local.limit}" if local.limit else ""
    return f"at most {local.max_depth}{limit}"


def _depth_table(depth_by_cpu: dict[int, tuple[int, ...]]) -> RenderableType:
    table = plain_table(
        ("CPU", "right"),
        ("mappings", "right"),
        ("depth 1", "right"),
        *((str(depth), "right") for depth in range(2, _DEPTHS_SHOWN + 1)),
        (f"{_DEPTHS_SHOWN + 1}+", "right"),
        ("", "left"),
    )
    most = max((sum(depths) for depths in depth_by_cpu.values()), default=0)
    cpus = sorted(depth_by_cpu)
    rows = [(str(cpu), depth_by_cpu[cpu]) for cpu in cpus[:_CPUS_SHOWN]]
    if rest := [depth_by_cpu[cpu] for cpu in cpus[_CPUS_SHOWN:]]:
        rows.append((f"{len(rest)} more", tuple(map(sum, zip_longest(*rest, fillvalue=0)))))
    for name, depths in rows:
        cells = [sum(depths), *depths[:_DEPTHS_SHOWN], *[0] * (_DEPTHS_SHOWN - len(depths))]
        cells.append(sum(depths[_DEPTHS_SHOWN:]))
        length = Bar(sum(depths) / most, _BAR_WIDTH) if most and name.isdigit() else ""
        table.add_row(name, *(Valued(count(n) if n else "·", n) for n in cells), length)
    return table
