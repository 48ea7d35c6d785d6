"""What a machine says about itself: configuration, memory map, zones, processors, boot log.

Each module here reads one kind of file; none raises for a damaged one, which leaves a note
instead. What there is to know is a :class:`collectors.snapshot.Snapshot`; a :class:`Fact` has
where it was said, too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from collectors.facts import (
    buffers,
    cmdline,
    config,
    cpuinfo,
    dmesg,
    hotplug,
    iomem,
    kprobes,
    meminfo,
    oom,
    pkmap,
    processes,
    recorder,
    version,
    vmallocinfo,
    vmstat,
    zoneinfo,
)
from collectors.facts.combine import combine
from collectors.facts.model import Fact, Facts, Sheet
from collectors.facts.reading import JSON_LIMIT, read_lines, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from collectors.facts.reading import Content

__all__ = ["Fact", "Facts", "read_facts", "read_folder"]


def _boot_log(text: str, sheet: Sheet) -> None:
    """Read the log as it was before the capture."""
    dmesg.parse(text, sheet)
    oom.parse_before(text, sheet)


def _log_at_end(text: str, sheet: Sheet) -> None:
    """Read the log as it was at the capture's end."""
    hotplug.parse(text, sheet)
    oom.parse_end(text, sheet)


PARSERS: Final[dict[str, Callable[[str, Sheet], None]]] = {
    "config": config.parse,
    "version": version.parse,
    "uname": version.parse,
    "cmdline": cmdline.parse,
    "iomem": iomem.parse,
    "zoneinfo": zoneinfo.parse,
    "zoneinfo.end": zoneinfo.parse_end,
    "meminfo": meminfo.parse,
    "cpuinfo": cpuinfo.parse,
    "pkmap.start": pkmap.parse_start,
    "pool_state": pkmap.parse_probe,
    "state.json": pkmap.parse_state,
    "vmallocinfo.start": vmallocinfo.parse,
    "vmallocinfo": vmallocinfo.parse,
    "vmstat.start": vmstat.parse_start,
    "vmstat.end": vmstat.parse_end,
    "buddyinfo": vmstat.parse_buddyinfo,
    "kprobe_events": kprobes.parse_events,
    "kprobe_profile": kprobes.parse_profile,
    "recorder": recorder.parse,
    "stats": buffers.parse_stats,
    "trace_clock": buffers.parse_clock,
    "trace_settings": buffers.parse_settings,
    "status.end": processes.parse,
    "status": processes.parse,
    "dmesg": _boot_log,
    "dmesg.end": _log_at_end,
}
"""Files that are read, in the order of trust, and what reads them.

What a machine knew at the end of a capture (``*.end``) and the judges of the tests
(``truth*``, ``pkmap.end``) are not among them, but for what the log tells of CPUs that went or
came and of want of memory, how full the zones were, the most addresses that each process ever had,
and how often memory was waited for.
"""

EXCLUSIVE: Final = (
    ("vmallocinfo.start", "vmallocinfo"),
    ("version", "uname"),
    ("status.end", "status"),
)
"""Of these, the second is read only where the first is missing."""

_BOOT_LOG: Final = re.compile(
    r"dmesg(?:[-_][\w.+-]{1,100})?(?:\.log)?|(?:kern|boot|console|serial)\.log|boot-?log"
    r"|(?:last_)?kmsg(?:\.log)?"
)
"""Other names that boot logs have; one that is called by its own name goes before."""
_COMPRESSED = (".gz", ".xz", ".zst")


def read_facts(files: Mapping[str, Content]) -> Facts:
    """Read what a machine said about itself.

    Parameters
    ----------
    files
        File name (a folder before it is ignored) to content or path; gz, xz and zst are
        decompressed. Files of other names are ignored.

    Returns
    -------
    Facts
        Empty where no file is known.
    """
    chosen: dict[str, tuple[str, Content]] = {}
    for name in sorted(files, key=lambda n: (_stem(n) not in PARSERS, len(n), n)):
        kind = kind_of(name)
        if kind is not None:
            chosen.setdefault(kind, (name.rsplit("/", 1)[-1], files[name]))
    for better, worse in EXCLUSIVE:
        if better in chosen:
            chosen.pop(worse, None)
    sheets = []
    for kind, parse in PARSERS.items():
        if kind in chosen:
            name, content = chosen[kind]
            sheets.append(_read_one(name, content, parse))
    return combine(sheets)


def read_folder(folder: Path) -> Facts:
    """Read the machine's files of a capture folder, as :func:`read_facts`.

    Parameters
    ----------
    folder
        Where they are; subfolders are not looked into.

    Returns
    -------
    Facts
        With a note where the folder cannot be listed.
    """
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        sheet = Sheet(str(folder))
        sheet.note(f"cannot be listed ({error.strerror or error})")
        return combine([sheet])
    known = (folder / name for name in names if kind_of(name) is not None)
    return read_facts({path.name: path for path in known if not path.is_dir()})


def kind_of(name: str) -> str | None:
    """Key in :data:`PARSERS` of a file name, None where it is no machine file.

    Examples
    --------
    >>> kind_of("config.gz"), kind_of("dmesg.end.gz"), kind_of("config-6.1.0-50-686-pae")
    ('config', 'dmesg.end', 'config')
    >>> kind_of("boot.log"), kind_of("dmesg.log.xz"), kind_of("dmesg-5.4.txt"), kind_of("x.log")
    ('dmesg', 'dmesg', 'dmesg', None)
    """
    stem = _stem(name)
    if stem in PARSERS:
        return stem
    if _BOOT_LOG.fullmatch(stem):
        return "dmesg"
    return "config" if stem.startswith("config-") or stem == ".config" else None


def _stem(name: str) -> str:
    """Name of a file without its folder, and without what tells its form."""
    base = name.rsplit("/", 1)[-1]
    for suffix in (*_COMPRESSED, ".txt"):
        base = base.removesuffix(suffix)
    return base


def kinds() -> Iterable[str]:
    """Names of the files that are read, for messages and the recorder."""
    return PARSERS.keys()


def _read_one(name: str, content: Content, parse: Callable[[str, Sheet], None]) -> Sheet:
    sheet = Sheet(name)
    if parse is pkmap.parse_state:
        text, trouble = read_text(content, JSON_LIMIT)
        troubles = [] if trouble is None else [trouble]
    else:
        text, troubles = read_lines(content)
    for trouble in troubles:
        sheet.note(trouble)
    if not text:
        if not troubles:
            sheet.note("empty")
        return sheet
    parse(text, sheet)
    if not sheet.facts and not sheet.notes:
        sheet.note("holds nothing that is known")
    return sheet
