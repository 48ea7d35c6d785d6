"""Pages of ring buffers that were copied out of tracefs, put together as one trace.dat.

The recorder copies ``per_cpu/cpuN/trace_pipe_raw`` of each CPU, and beside them what describes
their records: ``header_page``, ``header_event``, and for each group of events their ``format``
files, one behind the other, as ``formats.GROUP``. Those are the parts of a trace.dat of version 6
(trace-cmd.dat.v6(5)), so that is made of them, and read as every other. The pages themselves say
in which order the machine has its bytes.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from collectors.compressed import compression
from collectors.errors import HmtraceError
from collectors.input.magic import TRACE_DAT
from collectors.input.unpack import decompress
from collectors.opened import opened

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAME: Final = "trace_pipe_raw"
_PAGES: Final = re.compile(rf"{NAME}\.cpu(\d{{1,4}})(?:\.gz|\.xz|\.zst)?")
_FORMATS: Final = "formats."
_FIELD: Final = re.compile(r"\bcommit;\s*offset:(\d{1,4});\s*size:([48]);")
_DATA: Final = re.compile(r"\bdata;\s*offset:(\d{1,4});\s*size:(\d{1,8});")
_EVENT: Final = re.compile(rb"^(?=name: )", re.MULTILINE)
_USED: Final = 0x07FF_FFFF
"""Bits of a page's commit word that count its bytes (include/linux/ring_buffer.h)."""
_SMALL: Final = 16 << 20
"""Bytes of a description, all formats of a group together."""
_MOST_PAGE: Final = 1 << 26
_OPTIONS: Final = {"trace_clock": 4, "uname": 5}
"""Files that are options of a trace.dat, and which."""

_AGAIN: Final = (
    "copy events/header_page, and events/GROUP/*/format as formats.GROUP, beside the pages: "
    "`hmtrace recorder` does"
)
_NO_PAGE: Final = "header_page describes no page of a ring buffer"

Order = Literal["little", "big"]


def is_pages(name: str) -> bool:
    """Whether a file's name says that it has the pages of a CPU.

    Examples
    --------
    >>> is_pages("trace_pipe_raw.cpu0"), is_pages("trace_pipe_raw")
    (True, False)
    """
    return _PAGES.fullmatch(name) is not None


def assemble(folder: Path, pages: Iterable[Path], out: BinaryIO, shown: str) -> tuple[str, ...]:
    """Write a trace.dat of what lies in a capture folder.

    Parameters
    ----------
    folder
        Has the descriptions.
    pages
        Files with pages, one of each CPU, compressed or not.
    out
        Empty file, open for writing.
    shown
        Name of the capture, for errors.

    Returns
    -------
    tuple of str
        Remarks.

    Raises
    ------
    HmtraceError
        If descriptions are missing, or what is there is damaged.
    OSError
        If a file cannot be read, or `out` not be written.
    """
    header = _small(folder / "header_page", shown)
    size, commit, word = _page(header, shown)
    files = sorted((cpu_of(path.name), path) for path in pages)
    order = _order([path for _, path in files], size, slice(commit, commit + word), shown)

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, order)

    def block(data: bytes, width: int) -> bytes:
        return number(len(data), width) + data

    groups = _formats(folder, shown)
    ftrace = groups.pop("ftrace", [])
    out.write(TRACE_DAT + b"6\0" + bytes([order == "big", word]) + number(size, 4))
    out.write(b"header_page\0" + block(header, 8))
    out.write(b"header_event\0" + block(_small(folder / "header_event", shown, b""), 8))
    out.write(number(len(ftrace), 4) + b"".join(block(text, 8) for text in ftrace))
    out.write(number(len(groups), 4))
    for group, texts in groups.items():
        out.write(group.encode() + b"\0" + number(len(texts), 4))
        out.writelines(block(text, 8) for text in texts)
    out.write(number(0, 4) + number(0, 4))  # symbols are beside; there is no trace_printk()
    out.write(block(_small(folder / "saved_cmdlines", shown, b""), 8))
    cpus = files[-1][0] + 1
    out.write(number(cpus, 4) + b"options  \0")
    for name, option in _OPTIONS.items():
        if text := _small(folder / name, shown, b""):
            out.write(number(option, 2) + block(text, 4))
    out.write(number(0, 2) + b"flyrecord\0")
    table = out.tell()
    out.write(bytes(16 * cpus))
    out.write(block(b"", 8))
    notes = []
    for cpu, path in files:
        start = -(-out.tell() // size) * size
        out.seek(start)
        length = _copy(path, out)
        if length % size:
            notes.append(f"{path.name} ends within a page: {length % size} bytes are left out")
        out.seek(table + 16 * cpu)
        out.write(number(start, 8) + number(length // size * size, 8))
        out.seek(start + length)
    return tuple(notes)


def cpu_of(name: str) -> int:
    """CPU whose pages a file of this name has."""
    match = _PAGES.fullmatch(name)
    return int(match[1]) if match else 0


def _small(path: Path, shown: str, default: bytes | None = None) -> bytes:
    """A description; `default` where there is none."""
    from collectors.facts.reading import read_bytes

    if not path.is_file():
        if default is not None:
            return default
        raise HmtraceError(
            f"there are pages of ring buffers, but no {path.name} that describes them",
            source=shown,
            hint=_AGAIN,
        )
    data, trouble = read_bytes(path, _SMALL)
    if trouble is not None and default is None:
        raise HmtraceError(f"{path.name}: {trouble}", source=shown, hint=_AGAIN)
    return data


def _page(header: bytes, shown: str) -> tuple[int, int, int]:
    """Bytes of a page, where its commit word is, and how long that is."""
    text = header.decode("utf-8", "replace")
    commit, data = _FIELD.search(text), _DATA.search(text)
    if commit is None or data is None:
        raise HmtraceError(_NO_PAGE, source=shown, hint=_AGAIN)
    size = int(data[1]) + int(data[2])
    if not int(commit[1]) + int(commit[2]) <= int(data[1]) < size <= _MOST_PAGE:
        raise HmtraceError(_NO_PAGE, source=shown, hint=_AGAIN)
    return size, int(commit[1]), int(commit[2])


def _order(files: list[Path], size: int, commit: slice, shown: str) -> Order:
    """Order of bytes in which the first page's commit word is a number of bytes in a page."""
    from collectors.facts.reading import read_bytes

    orders: tuple[Order, ...] = ("little", "big")
    for path in files:
        with opened(path) as file:
            used = read_bytes(file.read(size), size)[0][commit]
        for order in orders:
            if 0 < int.from_bytes(used, order) & _USED < size:
                return order
    msg = "the files of its CPUs hold no page of a ring buffer"
    raise HmtraceError(msg, source=shown, hint=_AGAIN)


def _formats(folder: Path, shown: str) -> dict[str, list[bytes]]:
    """Descriptions of events, by their group."""
    found = {}
    for path in sorted(folder.glob(f"{_FORMATS}*")):
        texts = [text for text in _EVENT.split(_small(path, shown)) if text.startswith(b"name: ")]
        group = path.name.removeprefix(_FORMATS).partition(".")[0]
        if texts and group.isidentifier() and group.isascii():
            found[group] = texts
    if not found:
        raise HmtraceError(
            "there are pages of ring buffers, but no formats of their events",
            source=shown,
            hint=_AGAIN,
        )
    return found


def _copy(path: Path, out: BinaryIO) -> int:
    """Append a file, decompressed; give the number of bytes."""
    start = out.tell()
    with opened(path) as file:
        kind = compression(file.read(16))
        file.seek(0)
        if kind is None:
            shutil.copyfileobj(file, out, 1 << 20)
        else:
            decompress(kind, file, out.write, source=str(path))
    return out.tell() - start
