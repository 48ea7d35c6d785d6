"""The recorder's script: its template, filled in with probes.

A line of the script's table of functions is a command of the shell, what to do with it first::

    $1 EVENT KIND "ENTRY" "RESULT" SYMBOL…

ENTRY and RESULT are the arguments of its two probes; an empty RESULT: no probe of the return. KIND
has a letter for each of: ``l``, local mappings, which ``--minimal`` leaves out; ``o``, those of
kernels up to 5.10, which are not probed with those that came after; ``u``, unmaps that come for
lowmem too and are filtered; ``s``, rare: with stacks; ``.``, none of these.
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
        .replace("@PROBES@", "\n".join(f"    $1 {table_line(f)}" for f in recorded()))
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
    kmap_high . "page=$a1:x32" "vaddr=\$retval:x32" kmap_high
    >>> print(table_line(FUNCTIONS[FUNCTION_OF["flush_all_zero_pkmaps"]]))
    flush_all_zero_pkmaps . "$caller" "" flush_all_zero_pkmaps
    """
    kind = _KINDS.get(function.op or "", "") + "o" * ("map_atomic" in function.name)
    fetched = (" ".join(part) for part in (entry_words(function), result_words(function)))
    entry, result = (f'"{words}"' for words in fetched)
    return " ".join((event_of(function), kind or ".", entry, result, *function.names))


def event_of(function: Function) -> str:
    """Name of the probe at a function's entry; that at its return has ``_ret`` behind it."""
    return _EVENT_OF.get(function.name, function.name.lstrip("_"))


def entry_words(function: Function) -> Iterator[str]:
    """What the probe at a function's entry fetches; ``$aN`` is parameter N."""
    arguments = [f"$a{number}" for number in range(5)]
    for slot, name in enumerate(function.entry):
        where = function.fetch(slot, is_return=False)
        # not every architecture has the caller in a register
        yield f"{name}={where.format(*arguments)}:{_type(name)}" if where else "$caller"


def result_words(function: Function) -> Iterator[str]:
    """What the probe at its return fetches."""
    for slot, name in enumerate(function.result):
        where = function.fetch(slot, is_return=True)
        yield f"{name}={where.format(_RETURN)}:{_type(name)}"


def _type(name: str) -> str:
    return _TYPES.get(name, "x32")
