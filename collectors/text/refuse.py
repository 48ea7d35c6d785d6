"""Words for texts that cannot be read: what it is, and what would help."""

from __future__ import annotations

import re
from typing import Final

from collectors.errors import KNOWN
from collectors.input.magic import stranger

# (pattern of a line, what it is, what helps)
_KNOWN: Final = (
    (
        re.compile(
            rb"^\s{0,120}+\S.{0,120}?\s{1,40}+\d{1,10}(?:/\d{1,10})?\s{1,40}+(?:\[\d{1,6}\]\s{1,40}+)?"
            rb"\d{1,12}\.\d{1,20}:\s{1,40}+(?:\d{1,20}\s{1,40}+)?[\w:.-]{1,400}:"
        ),
        "output of perf script in a form that hmtrace does not know",
        "give the perf.data itself, or the output of perf script with its default fields",
    ),
)


_SAMPLE: Final = re.compile(
    rb"\S.{0,40}? +\d{1,10}(?:/\d{1,10})? +(?:\[\d+\] +)?[\w:./-]{1,60}: *$"
)
_CHAIN: Final = re.compile(rb"\s{1,80}+[0-9a-f]{8,16} \S")


_LOG: Final = re.compile(
    rb"(?:<\d>)?\[ {0,8}\d{1,8}\.\d{6}(?:@\d{1,2})?\][ \[]|Linux version \d|"
    rb"vmalloc: allocation failure|vmap allocation for size"
)
_FULL: Final = re.compile(
    rb"vmap allocation for size|vmalloc: allocation failure|vmalloc error: size"
)


def _of_log(lines: list[bytes]) -> str:
    """What helps somebody who gives a kernel's log in place of a trace."""
    hint = "hmtrace reads it beside a trace, as the file dmesg in the folder of the capture"
    if any(map(_FULL.search, lines)):
        hint += (
            "; it says that address space ran out: record as README.md has it under "
            "'How to capture'"
        )
        if any(b"module_alloc" in line for line in lines):
            hint += (
                " (module_alloc() failed: on ARM modules have an area of their own, which vmalloc= "
                "does not enlarge)"
            )
    return hint


def explain(lines: list[bytes]) -> tuple[str, str]:
    """Say what a text is of which no line could be read.

    Parameters
    ----------
    lines
        First lines that no grammar accepts.

    Returns
    -------
    message, hint
    """
    for pattern, what, hint in _KNOWN:
        if any(pattern.match(line) for line in lines):
            return f"this is {what}", hint
    if any(map(_SAMPLE.match, lines)) and any(map(_CHAIN.match, lines)):
        return (
            "this is output of perf script without times: samples and call chains, no values",
            "record probes or tracepoints (perf record -e 'probe:*'), and give the perf.data "
            "itself, or the output of perf script with its default fields",
        )
    if any(map(_LOG.match, lines)):
        return "this is a kernel's log (dmesg), not a trace", _of_log(lines)
    sample = b"\n".join(lines)
    if (found := stranger(sample)) is not None:
        return found
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "this is UTF-16 text", "convert it to UTF-8: iconv -f UTF-16 -t UTF-8"
    if b"\0" in sample or sum(c < 9 or 13 < c < 32 for c in sample) * 20 > len(sample):
        return "this is binary data of no format that hmtrace knows", KNOWN
    return (
        "no line of this text is a trace event",
        "expected the tracefs file 'trace' or 'trace_pipe', or 'trace-cmd report'",
    )
