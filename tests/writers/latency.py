"""Writes trace.dat files that hold the text of a latency tracer instead of pages.

Facts: trace-cmd.dat.v6(5) (tag ``latency``), trace-cmd.dat.v7(5) (BUFFER_TEXT, compressed chunks).
"""

from __future__ import annotations

from tests.writers import tracedat
from tests.writers.tracedat import BufferSpec, FileSpec, _Writer

FORMS = ("plain", "zstd-block", "zstd-chunks", "zlib-block", "zlib-chunks", "tagged")
"""Ways in which version 7 may keep the text."""


def make(form: str, text: bytes, *, name: str = "", clock: str = "global") -> bytes:
    """Bytes of a file; `form` is ``v6`` or one of :data:`FORMS`."""
    events = list(tracedat.kernel_events(4).values())
    uname = (5, b"Linux board 6.1.0 armv7l\0")
    if form == "v6":
        spec = FileSpec(
            [BufferSpec({}, clock=clock)], events, version=6, options=[uname], cpu_count=2
        )
        data = tracedat.write(spec)
        return data[: data.index(b"flyrecord\0")] + b"latency  \0" + text
    compression = form.partition("-")[0] if "-" in form else "none"
    writer = _Writer(FileSpec([], events, compression=compression, cpu_count=2))
    spec = writer.spec
    version = {"none": b"", "zstd": b"1.5.4", "zlib": b"1.2.13"}[compression]
    writer.out += writer.preamble() + compression.encode() + b"\0" + version + b"\0"
    link = len(writer.out)
    writer.out += bytes(8)
    listed = [(number, writer.n(8, writer.section(number, b))) for number, b in writer.blocks()]
    at = len(writer.out)
    body = b"latency  \0" + text if form == "tagged" else text
    if form.endswith("chunks"):
        pieces = [body[i : i + 1000] for i in range(0, len(body), 1000)]
        body = writer.n(4, len(pieces))
        for piece in pieces:
            small = writer.pack(piece)
            body += writer.n(4, len(small)) + writer.n(4, len(piece)) + small
    elif compression != "none":
        small = writer.pack(body)
        body = writer.n(4, len(small)) + writer.n(4, len(body)) + small
    writer.out += writer.n(2, 22) + writer.n(2, int(compression != "none")) + writer.n(4, 0)
    writer.out += writer.sized(8, body)
    option = writer.n(8, at) + name.encode() + b"\0" + clock.encode() + b"\0"
    listed += [uname, (8, writer.n(4, 2)), (22, option)]
    writer.out[link : link + 8] = writer.n(8, len(writer.out))
    writer.options(listed)
    return bytes(writer.out)
