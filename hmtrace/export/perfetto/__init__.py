"""A trace in Perfetto's own format: what the kernel did, and the state of the model beside it.

A trace is a row of packets (protos/perfetto/trace/trace_packet.proto). Few of them say what there
is, tracks and names: those are made with the message classes of the package ``perfetto``. All
others are events of a track, as many as the capture has: compiled loops write their bytes,
a hundred times as fast (docs/convert.md has the measurement). Packets come in any order, for who
reads a trace sorts them by time; of those of one time on one track the first in the file comes
first, so each track is written in its own order (:mod:`hmtrace.export.perfetto.loops`).

::

    loops     events to bytes, and which track a slice may stand on
    sink      packets to a file, in compressed pieces
    tracks    tracks and names
    writer    what a walk shows, to packets
    trace     a capture, to a file
"""
