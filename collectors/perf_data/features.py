"""Feature sections: what perf record wrote about machine and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.perf_data import layout
from collectors.perf_data.attrs import Attr, read_attr
from collectors.perf_data.layout import Feature
from collectors.records import dataclass, field
from collectors.traceevent.metadata import Metadata, read_tracing_data

if TYPE_CHECKING:
    from collectors.traceevent.cursor import Cursor


@dataclass
class Features:
    """What the feature sections say.

    Attributes
    ----------
    release, arch
        Of the traced machine.
    cpus
        CPUs that were online.
    mem_total
        Bytes: MemTotal of /proc/meminfo.
    meta
        Tracepoints and their descriptions; None: not in the file.
    names
        Name of an event by its (type, config).
    ids
        Attribute's (type, config) by id, as the description of events has them.
    directory
        The records are in further files beside this one.
    """

    release: str = ""
    arch: str = ""
    cpus: int | None = None
    mem_total: int | None = None
    meta: Metadata | None = None
    names: dict[tuple[int, int], str] = field(default_factory=dict)
    ids: dict[int, tuple[int, int]] = field(default_factory=dict)
    directory: bool = False


def read_feature(features: Features, number: int, cursor: Cursor) -> None:
    """Read one section; one of no use here is passed over.

    Parameters
    ----------
    features
        Filled in.
    number
        :class:`layout.Feature`, or any other.
    cursor
        The section's bytes.

    Raises
    ------
    HmtraceError
        If it is damaged.
    """
    if number == Feature.TRACING_DATA:
        features.meta = read_tracing_data(cursor.data, name=cursor.name)
    elif number == Feature.OSRELEASE:
        features.release = read_string(cursor, "kernel release")
    elif number == Feature.ARCH:
        features.arch = read_string(cursor, "architecture")
    elif number == Feature.NRCPUS:
        cursor.number(4, "number of available CPUs")
        online = cursor.number(4, "number of CPUs online")
        features.cpus = online if 0 < online <= 1 << 16 else None
    elif number == Feature.TOTAL_MEM:
        kib = cursor.number(8, "total memory")
        features.mem_total = kib << 10 if 0 < kib < 1 << 40 else None
    elif number == Feature.EVENT_DESC:
        _read_events(features, cursor)
    elif number == Feature.DIR_FORMAT:
        features.directory = True


def read_string(cursor: Cursor, what: str) -> str:
    """Read a string as perf writes it: u32 length, bytes, padded with NUL."""
    raw = bytes(cursor.sized(4, what))
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _read_events(features: Features, cursor: Cursor) -> None:
    """Read the names and ids of the events (tools/perf/util/header.c: write_event_desc)."""
    count = cursor.count(4, layout.ATTR_MIN, "event descriptions")
    stride = cursor.number(4, "size of an attribute")
    if not layout.ATTR_MIN <= stride <= layout.ATTR_MAX:
        raise cursor.error(f"attributes of {stride} bytes in the event descriptions")
    for _ in range(min(count, layout.MAX_ATTRS)):
        start = cursor.offset
        attr, _size = read_attr(cursor, stride, strict=False)
        cursor.seek(start + stride, "event description")
        ids = cursor.number(4, "number of ids")
        name = read_string(cursor, "name of an event")
        if ids * 8 > cursor.left:
            raise cursor.error(f"{ids} ids do not fit into the event descriptions")
        features.names.setdefault(key_of(attr), name)
        for _ in range(ids):
            features.ids.setdefault(cursor.number(8, "id"), key_of(attr))


def key_of(attr: Attr) -> tuple[int, int]:
    """What tells events apart: type and config."""
    return attr.type, attr.config
