"""The recorder's script: its template, filled in with probes.

A line of the script's table of functions is::

    EVENT KIND SYMBOL[,SYMBOL…] ENTRY RESULT

ENTRY and RESULT are the arguments of its two probes, with commas between them; ``.``: none, and
``-``: no probe. KIND has a letter for each of: ``l``, local mappings, which ``--minimal`` leaves
out; ``o``, those of kernels up to 5.10, which are not probed with those that came after; ``u``,
unmaps that come for lowmem too and are filtered; ``s``, rare: with stacks.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from collectors.probes import FUNCTIONS, NICKNAMES
from hmtrace import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collectors.probes import Function

_TYPES: Final = {"count": "u32", "pages": "u32", "node": "s32", "purged": "u8"}
"""Types of values that are no addresses or sizes, as kprobe_events has them."""
_KINDS: Final = {
    "kmap_local": "l",
    "kunmap_local": "lu",
    "sched_out": "l",
    "sched_in": "l",
    "vmap": "s",
    "vm_map_ram": "s",
    "vmalloc": "s",
    "percpu_alloc": "s",
}
_EVENT_OF: Final = {symbol: event for event, symbol in NICKNAMES.items()}
_RETURN: Final = r"\$retval"


def recorder_script() -> str:
    """Write the script for the board.

    Returns
    -------
    str
        POSIX shell; ASCII.
    """
    template = files("hmtrace.recorder").joinpath("hmrecord.sh").read_text(encoding="ascii")
    names = [re.escape(name) for f in recorded() for name in f.names]
    return (
        template.replace("@VERSION@", __version__)
        .replace("@PROBES@", "\n".join(map(table_line, recorded())))
        .replace("@PATTERN@", "|".join(names))
    )


def recorded() -> Iterator[Function]:
    """The functions that become operations of the event table, without tracepoints."""
    return (f for f in FUNCTIONS if f.op is not None and not f.host and f.op != "tlb_flush")


def table_line(function: Function) -> str:
    r"""One function as a line of the script's table.

    Examples
    --------
    >>> from collectors.probes import FUNCTION_OF
    >>> print(table_line(FUNCTIONS[FUNCTION_OF["kmap_high"]]))
    kmap_high . kmap_high page=$a1:x32 vaddr=\$retval:x32
    >>> print(table_line(FUNCTIONS[FUNCTION_OF["free_vmap_area_noflush"]]).split()[3])
    va=$a1:x32,va_start=+0($a1):x32,va_end=+4($a1):x32
    """
    event = _EVENT_OF.get(function.name, function.name.lstrip("_"))
    kind = _KINDS.get(function.op or "", ".") + "o" * ("map_atomic" in function.name)
    result = ",".join(_result(function)) if function.result else "-"
    entry = ",".join(_entry(function)) or "."
    return f"{event} {kind} {','.join(function.names)} {entry} {result}"


def _entry(function: Function) -> Iterator[str]:
    """Arguments at entry; ``$aN`` is parameter N, ``$ra`` the caller."""
    reads = iter(function.entry_reads)
    places = (*function.params, *(0,) * len(function.entry))
    for name, place in zip(function.entry, places, strict=False):
        if name == "caller":
            where = "$ra"
        elif place:
            where = f"$a{place}"
        else:
            where = next(reads).format(*(f"$a{number}" for number in range(5)))
        yield f"{name}={where}:{_type(name)}"


def _result(function: Function) -> Iterator[str]:
    reads = ("{0}", *function.result_reads)
    for name, where in zip(function.result, reads, strict=True):
        yield f"{name}={where.format(_RETURN)}:{_type(name)}"


def _type(name: str) -> str:
    return _TYPES.get(name, "x32")
