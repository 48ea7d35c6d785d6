"""The model: what 32-bit kernels do to map highmem, and what it costs.

Knows mappings and costs, nothing of files or terminals; of :mod:`collectors` it imports only
the event table's schema and the one error.

The rooms, each with a map of its own::

    machine     a machine: its architecture, generation, address space, zones
    trace       what windows of a trace hand on
    pool        kmap()
    local       kmap_local_page() and kmap_atomic()
    arena       vmap(), vmalloc(), vm_map_ram(), and lazy purges
    cost        what the work costs, and what it was measured to cost
    whatif      the same workload on another machine
    validate    predictions beside what the kernel reported
    sites       who maps: call sites, and how long mappings last
    rules       what the figures mean: findings

and over them::

    survey      a first look at a whole trace
    walk        a trace on its own machine, window by window
    measure     costs from the trace's own durations
    figures, outcome, memory, observed   the numbers that every report shows
    compiled    how the loops are compiled (collectors.compiled)
    times       histograms of times, and what is read off them

Adding an architecture is described in :mod:`replay.machine.arches`, a kernel generation in
:mod:`replay.machine.generations`, a rule in :mod:`replay.rules`.
"""
