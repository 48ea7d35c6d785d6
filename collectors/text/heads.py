"""What the head of an event means: which function, entry or return, which call site.

A head is the event's name and where its probe is (kernel/trace/trace_kprobe.c:
print_kprobe_event, print_kretprobe_event; libtraceevent prints the raw addresses of the same
fields, as its format is ``(%lx)`` and ``(%lx <- %lx)``)::

    kmap_high: (kmap_high+0x0/0x260)
    kmap_high_ret: (dir_get_page.isra.0+0x50/0x60 [minix] <- kmap_high)
    kmap_high:            (c126e9f0)
    kmap_high_ret:        (c126e9f0 <- f7888797)
    kmap_high:             __probe_ip=c126e9f0
    kmap_high_ret:         __probe_func=c126e9f0 __probe_ret_ip=f7888797

The probed function decides, never the event's name; the name is a last resort for raw addresses
that neither kallsyms nor kprobe_events explains.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.probes import (
    FUNCTION_OF,
    KIND_MARK,
    KIND_STACK,
    KIND_SWITCH,
    TRACEPOINTS,
    base_name,
    function_of,
    label_of,
)
from collectors.records import dataclass
from collectors.text.layout import FUNCTION_EVENT, GRAPH_EVENT, PLAIN, PLAIN_NAME

if TYPE_CHECKING:
    from collectors.text.addresses import Addresses

_HEX: Final = r"(?:0x)?([0-9a-f]{4,16})"
_ENTRY: Final = re.compile(r"^([^:\s]+):\s+\(([^\s()<]+)(?: \[[^\]]*\])?\)$")
_RETURN: Final = re.compile(
    r"^([^:\s]+):\s+\(([^\s()<]+)((?: \[[^\]]*\])?) <- ([^\s()<]+)(?: \[[^\]]*\])?\)$"
)
_RAW_ENTRY: Final = re.compile(rf"^([^:\s]+):\s+__probe_ip={_HEX}(?: \([^)]*\))?$")
_RAW_RETURN: Final = re.compile(
    rf"^([^:\s]+):\s+__probe_func={_HEX}(?: \([^)]*\))? __probe_ret_ip={_HEX}(?: \([^)]*\))?$"
)
# Option "fields" of newer kernels shows symbols (kernel/trace/trace_output.c: print_fields).
_SYMBOL: Final = r"([^\s()=]+\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)((?: \[[^\]]*\])?)(?: \([^)]*\))?"
_FIELD_ENTRY: Final = re.compile(rf"^([^:\s]+):\s+__probe_ip={_SYMBOL}$")
_FIELD_RETURN: Final = re.compile(
    rf"^([^:\s]+):\s+__probe_func={_SYMBOL} __probe_ret_ip={_SYMBOL}$"
)
_ADDRESS: Final = re.compile(r"^(?:0x)?[0-9a-f]{4,16}$")

# First word of an event that heads a stack trace (kernel/trace/trace_output.c).
_STACKS: Final = {"<stack": (KIND_STACK, "kernel_stack"), "<user": (PLAIN, "user_stack")}
# Events of which the name says all: tracers' own, and the text of trace_marker (``print`` in
# trace-cmd report, where trace_printk() with a text that is not constant has it too).
_NAMED: Final = {
    "function": FUNCTION_EVENT,
    "funcgraph_entry": GRAPH_EVENT,
    "funcgraph_exit": GRAPH_EVENT,
    "kernel_stack": KIND_STACK,
    "tracing_mark_write": KIND_MARK,
    "print": KIND_MARK,
}


@dataclass(frozen=True)
class HeadMeaning:
    """What a head stands for.

    Attributes
    ----------
    kind
        As in :data:`collectors.raw.RAW_DTYPE`, or PLAIN, PLAIN_NAME, FUNCTION_EVENT.
    label
        Name that it is counted under.
    site, caller
        Call site of a return probe: symbol where the trace has one, else the address.
    """

    kind: int
    label: str
    site: str = ""
    caller: int = 0


def meaning_of_event(text: str, addresses: Addresses) -> HeadMeaning:
    """Interpret the head of an event.

    Parameters
    ----------
    text
        Head, from the event's name on.
    addresses
        Resolves raw addresses.

    Returns
    -------
    Meaning
    """
    event = text.partition(":")[0]
    if event == "sched_switch":
        return HeadMeaning(KIND_SWITCH, event)
    if text.rstrip() == f"{event}:":
        if event.startswith("0x"):  # trace_printk() of a module whose symbols are gone
            return HeadMeaning(PLAIN, "trace_printk")
        event = event.partition("+")[0]  # option sym-offset: tracing_mark_write+0x81/0x220
        if event in TRACEPOINTS:
            return HeadMeaning(TRACEPOINTS[event], label_of(TRACEPOINTS[event]))
        label = f"{event} (tracepoint)" if event in FUNCTION_OF else event
        return HeadMeaning(_NAMED.get(event, PLAIN), label)
    if m := _ENTRY.match(text):
        return _entry(event, m[2], addresses)
    if m := _RETURN.match(text):
        # libtraceevent prints (function <- return address), the kernel the other way round
        if _ADDRESS.match(m[2]) and _ADDRESS.match(m[4]) and not m[2].startswith("0x"):
            return _return(event, m[2], m[4], "", addresses)
        return _return(event, m[4], m[2], m[3], addresses)
    if m := _RAW_ENTRY.match(text):
        return _entry(event, m[2], addresses)
    if m := _RAW_RETURN.match(text):
        return _return(event, m[2], m[3], "", addresses)
    if m := _FIELD_ENTRY.match(text):
        return _entry(event, m[2], addresses)
    if m := _FIELD_RETURN.match(text):
        return _return(event, m[2], m[4], m[5], addresses)
    if "__probe_" in text:
        return HeadMeaning(PLAIN, event)
    return HeadMeaning(PLAIN_NAME, event)


def meaning_of_function(symbol: str) -> HeadMeaning:
    """Interpret a line of the function tracer: a name, perhaps with offset or address."""
    if symbol in _STACKS:
        return HeadMeaning(*_STACKS[symbol])
    name = symbol.partition("+")[0]
    function = FUNCTION_OF.get(base_name(name))
    if function is None:
        return HeadMeaning(PLAIN, name)
    return HeadMeaning(2 * function, label_of(2 * function))


def meaning_of_call(symbol: str) -> HeadMeaning:
    """Interpret the name of a function that the function_graph tracer shows.

    Its own name is its `site`: that of the calls inside it.
    """
    found = meaning_of_function(symbol)
    return HeadMeaning(found.kind, found.label, site=symbol)


def _entry(event: str, where: str, addresses: Addresses) -> HeadMeaning:
    if "+" in where:
        try:
            function = function_of(where)
        except ValueError:  # not an offset after all
            return HeadMeaning(PLAIN_NAME, event)
    elif _ADDRESS.match(where):
        function = addresses.function_at(event, int(where, 16))
    else:
        return HeadMeaning(PLAIN_NAME, event)
    if function is None:
        return HeadMeaning(PLAIN, event)
    return HeadMeaning(2 * function, label_of(2 * function))


def _return(event: str, symbol: str, site: str, module: str, addresses: Addresses) -> HeadMeaning:
    is_raw = _ADDRESS.match(site) is not None
    if is_raw and _ADDRESS.match(symbol) and symbol not in FUNCTION_OF:
        function = addresses.function_at(event, int(symbol, 16))
    else:
        function = FUNCTION_OF.get(base_name(symbol.partition("+")[0]))
    if function is None:
        return HeadMeaning(PLAIN, event)
    kind = 2 * function + 1
    if is_raw:
        return HeadMeaning(kind, label_of(kind), caller=int(site, 16))
    return HeadMeaning(kind, label_of(kind), site=site + module)
