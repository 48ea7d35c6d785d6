"""From raw events to the event table: a call and its return are one row.

::

    tabulate    piece by piece: pair, name the columns, derive frames
    pairing     the compiled loop that pairs entries and returns
    open_calls  its state, and the calls of each task that are open
    columns     what that loop works on
    writer, spool, packed   rows on their way out: to a file, or kept for this process
    totals      what they come to, counted on the way
    part        rows as plain arrays, on their way to polars columns
    naming      names of tasks, call sites and stack traces
    distinct    numbering the different values of a column
    pages       struct pages and page frames
    seen        facts: what the table's own addresses show of the machine
    buffers     losses that only the kernel's statistics tell of
"""
