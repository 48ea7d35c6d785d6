"""What a vmlinux says of a kernel's sizes, beside what the capture's machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hmtrace.report.parts import heading, labelled
from hmtrace.report.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from collectors.dwarf.sizes import KernelSizes
    from replay.machine.model import Layout


class SizeCheck(NamedTuple):
    """One size.

    Attributes
    ----------
    key, what
        Name in a document, and in words.
    vmlinux, capture
        What each says.
    """

    key: str
    what: str
    vmlinux: int
    capture: int

    @property
    def agrees(self) -> bool:
        """Whether both say the same."""
        return self.vmlinux == self.capture


def size_checks(sizes: KernelSizes, layout: Layout, page_struct: int) -> tuple[SizeCheck, ...]:
    """Compare what a vmlinux tells with the captured machine.

    Parameters
    ----------
    sizes
        Those of the vmlinux.
    layout, page_struct
        Of the captured machine.
    """
    in_all = layout.km_max_idx * layout.nr_cpus * layout.pkmap_colours
    told = (
        ("pool_slots", "slots of the pool", sizes.pool_slots, layout.pkmap_slots),
        ("page_struct", "bytes of struct page", sizes.page_struct, page_struct),
        ("local_slots", "local slots of a CPU", sizes.local_slots, layout.km_max_idx),
        ("fixmap_slots", "local slots of all CPUs", sizes.fixmap_slots, in_all),
    )
    return tuple(
        SizeCheck(key, what, own, here) for key, what, own, here in told if own is not None
    )


def size_warning(checks: Sequence[SizeCheck]) -> str:
    """What does not agree, in a sentence; empty: all does."""
    wrong = [check for check in checks if not check.agrees]
    if not wrong:
        return ""
    each = ", ".join(f"{count(c.vmlinux)} {c.what} (capture: {count(c.capture)})" for c in wrong)
    return f"the vmlinux has {each}: it is of another build, or the capture's files are"


def sizes_section(checks: Sequence[SizeCheck]) -> Iterator[RenderableType]:
    """The section of a page."""
    if not checks:
        return
    warning = size_warning(checks)
    agreed = " · ".join(f"{count(c.vmlinux)} {c.what}" for c in checks if c.agrees)
    yield heading("Built with")
    rows = [("as captured", agreed)] if agreed else []
    yield labelled([*rows, ("WARNING", warning)] if warning else rows)


def sizes_document(checks: Sequence[SizeCheck]) -> dict[str, Any] | None:
    """The same as a part of a document; None: no vmlinux told anything."""
    if not checks:
        return None
    return {
        "agrees": all(check.agrees for check in checks),
        **{c.key: {"vmlinux": c.vmlinux, "capture": c.capture} for c in checks},
    }
