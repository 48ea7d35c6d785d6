"""Stack traces in text: the lines under ``<stack trace>``.

kernel/trace/trace_output.c: trace_stack_print prints `` => symbol[+offset] [<address>]``;
libtraceevent ``=> symbol (address)``. The block is looked up as a whole, so that only what has
not been met before is taken apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import numpy as np

from collectors.probes import KIND_STACK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from collectors.input.source import Source

MAX_BYTES: Final = 1 << 16
"""Bytes of a block that are looked at; the kernel's deepest stacks have a tenth of it."""
_FRAME: Final = re.compile(rb"^[ \t]*=> ?([^\n]*)", re.MULTILINE)
_CHAIN: Final = re.compile(
    # The name ends at the last " (" of the line, come what may.
    rb"^\t[ \t]*+[0-9a-f]++ (?>([^\n]*) \()(\[?)([^\n]*?)\]?\)[ \t\r]*+$",
    re.MULTILINE,
)
_USER: Final = ("vdso", "vdso32", "vsyscall", "vectors", "sigpage", "uprobes", "heap", "stack")
_NAMELESS: Final = "[unknown]"
_KERNEL: Final = ("kernel.kallsyms", "guest.kernel.kallsyms", "unknown")
_ADDRESS: Final = re.compile(r"(?:<[0-9a-f]{1,16}>|\([0-9a-f]{1,16}\))$")


_SIZE: Final = re.compile(r"(\+0x[0-9a-f]{1,16})/0x[0-9a-f]{1,16}")


def without_size(place: str) -> str:
    """Leave the function's size out of a place: binary traces of the same buffer have none.

    Examples
    --------
    >>> without_size("dir_get_page+0x5/0x60 [minix]")
    'dir_get_page+0x5 [minix]'
    """
    return _SIZE.sub(r"\1", place)


def frames_of(block: bytes) -> str:
    r"""Write a block as ``innermost<-caller<-caller``, without addresses beside symbols.

    Call chains of perf script (``\tADDRESS symbol+0x12 ([module])``) end with the kernel's frames;
    of the kernel's and the user's alike is ``[unknown] ([unknown])``, which tells nothing.

    Examples
    --------
    >>> frames_of(b" => kmap_high\n => dir_get_page+0x5/0x60 [minix] <f7888797>\n")
    'kmap_high<-dir_get_page+0x5 [minix]'
    """
    frames = []
    for match in _CHAIN.finditer(block) if block.startswith(b"\t") else ():
        symbol, module = match[1].decode("utf-8", "replace"), match[3].decode("utf-8", "replace")
        if not match[2] or module in _USER:
            break
        frames.append(symbol if module.startswith(_KERNEL) else f"{symbol} [{module}]")
    while frames and frames[-1] == _NAMELESS:
        frames.pop()
    for match in _FRAME.finditer(block):
        frame = match[1].decode("utf-8", "replace").strip()
        frames.append(without_size(_ADDRESS.sub("", frame).rstrip() or frame))
    return "<-".join(frames)


def cut_before_stack(source: Source, at: int) -> int:
    """Move the start of a line on, behind the stack trace that it is in or that begins there."""
    size = source.end_of_lines()
    limit = min(at + MAX_BYTES, size)
    while at < limit:
        end = source.find(b"\n", at)
        line = source.data[at : min(end if end >= 0 else limit, limit)].tobytes()
        within = line.startswith(b"\t") or line.lstrip().startswith(b"=>")
        if not within and b"<stack trace" not in line:
            break
        at = end + 1 if end >= 0 else size
    return at


def without_strays(words: NDArray[np.int64], unkept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop the stack traces of events that became no row in an earlier piece of the text.

    Parameters
    ----------
    words : ndarray of int64, shape (n, 9)
        A piece's rows (:func:`collectors.text.rows.write_row`).
    unkept : ndarray of int64, shape (64,)
        1 for the CPUs (modulo 64) whose last event before the piece became no row.

    Returns
    -------
    ndarray of int64
        The same array, if nothing is dropped.
    """
    cpu, kind = words[:, 7] >> 48 & 63, words[:, 7] >> 32 & 0xFFFF
    stacked = np.flatnonzero(kind == KIND_STACK)
    doubtful = stacked[unkept[cpu[stacked]] == 1]
    if not len(doubtful):
        return words
    first = np.full(len(unkept), len(words))
    events = np.flatnonzero(kind != KIND_STACK)
    np.minimum.at(first, cpu[events], events)
    return np.delete(words, doubtful[doubtful < first[cpu[doubtful]]], axis=0)
