"""kmap(): the pkmap pool, its calls in the order in which they took its lock (mm/highmem.c).

::

    window        where it lies, what is known of it before a replay
    calls         the pool's calls, from the event table
    rows          what their loops read of a piece of it
    entries       the calls of a piece, by themselves
    stream        their entries and returns as one stream, piece by piece
    lock_order    the order in which they took the lock
    replay        the calls in that order on the model
    tally         the figures
    users         who has the slots, and who waits for them
    takers        who needs one while it holds some, and who waits for whom
    picture       what lies around a first divergence
    loops         the compiled loops
"""
