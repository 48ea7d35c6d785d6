"""vmap(), vmalloc(), vm_map_ram(): the areas of the arena, and their lazy purges (mm/vmalloc.c).

::

    calls       the arena's calls and purges, from the event table
    rows        what the replay looks at, picked out window by window
    pieces      its calls in pieces, cut where nothing is under way
    firsts      what happens first to each area, which corrects the snapshot
    state       what is in use and free at the start, and in which tree
    replay      every address, failure and purge beside the prediction
    items       the calls as the loop that finds their order takes them
    ruling      which answers no other state that fits the evidence would have given
    result      verdicts on the answers, and what it took to get them
    lazy, late  the lazy list: which purge took which areas, and which frees came too late for it
    blocks      vm_map_ram(), address by address
    use         the arena as the trace shows it: bookkeeping, not prediction
    modules     the same of the modules' own area, where there is one
    holders     who holds areas
    picture     what lies around a first divergence
    tally       work and TLB flushes, for the cost
    loops       the compiled loops
"""
