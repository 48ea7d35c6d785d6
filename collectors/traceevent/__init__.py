"""What trace.dat and perf.data both stand on: the kernel's trace events and their formats.

::

    cursor, loads    bytes of a file, step by step
    formats          the format files of events: fields, their places and kinds
    metadata         the parts of a trace's description that tracefs wrote
    meaning, calls   which events are mapping calls, and what their values are
    symbols          kallsyms as it lies in a trace
    marks, stacks    trace markers; stack traces
    pids             tables with a cell for every task
    ordering         pieces of several CPUs in the order of time
    pairs            which probed address an event's record is of (compiled)
    fill             raw events out of records (compiled)
    losses, _rows    between which events others are missing
"""
