"""State of the model over time: what charts and traces for other programs are drawn from.

A part is given what the walk has of a window, and says what was so after each step: *steps*. They
are reduced to bins whose number does not hang on the trace. Nothing is modelled anew: the pool's
operations are carried out once more by the loops of :mod:`replay.pool.loops`, the arena's by those
of :mod:`replay.arena.loops.use`, and the stacks tell their depths themselves.

::

    lines     quantities in bins of time
    pool      slots in use, stale, tasks that wait; slots by time
    local     local mappings of the running task, by CPU
    arena     bytes in use and lazily freed, the largest hole; addresses by time
    flushes   what flushes cost, by cause
    tally     all of them, to a Timeline
    loops     the compiled loops
"""
