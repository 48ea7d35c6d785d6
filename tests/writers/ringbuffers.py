"""What the recorder copies of the ring buffers: pages of each CPU, and what describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.writers import tracedat

if TYPE_CHECKING:
    from tests.writers.tracedat import FileSpec


def files(spec: FileSpec) -> dict[str, bytes]:
    """Files by name of the first buffer of a trace.dat that is described by `spec`."""
    made = {
        f"trace_pipe_raw.cpu{cpu}": b"".join(tracedat.pages_of(spec, items))
        for cpu, items in spec.buffers[0].cpus.items()
    }
    for event in spec.events:
        name = f"formats.{event.system}"
        made[name] = made.get(name, b"") + event.text().encode()
    return made | {
        "header_page": tracedat._header_page(spec),
        "header_event": tracedat.HEADER_EVENT,
        "saved_cmdlines": "".join(f"{p} {c}\n" for p, c in spec.comms.items()).encode(),
        "trace_clock": b"local [mono] global\n",
        "uname": b"Linux board 6.1.0-test mips\n",
        "kallsyms": spec.kallsyms.encode(),
    }
