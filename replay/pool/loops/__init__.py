"""Compiled loops of the pool; ``.py_func`` of each is its readable reference.

::

    highmem     kmap_high(), kunmap_high(), flush_all_zero_pkmaps() on one pool
    calls       from rows of the event table to calls
    stream      their entries and returns in the order of the trace
    sequence    operations in a known order
    placing     what the search for the order works on
    order       the loop over events that keeps what the order may still be
    passes      which kunmap() came before a flush
    search      the order that explains the addresses
    output      what of it is settled
    tally       counting what operations came to
    closed      operations on another machine's pool, in closed loop
"""
