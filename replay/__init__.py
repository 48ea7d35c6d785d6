"""The model: what 32-bit kernels do to map highmem, and what it costs.

Knows mappings and costs, nothing of files or terminals; of :mod:`collectors` it imports only
the event table's schema.

Where things are::

    machine, from_facts, seen    a machine: given, from a capture's files, from its addresses
    arches, generations, build   what architectures, kernel releases and build options differ in
    layout, memory               a machine's address space and zones
    windows, survey              a trace on its own machine, window by window
    run                          the same keeping every call: calibration, small validations
    numbering, spooled_rows      what windows hand on: numbers for keys, rows on the disk
    pool, pool_*, lock_order,    kmap(): its calls, the order in which they took the lock, figures
      linearise
    local_*, locals              kmap_local() and kmap_atomic()
    arena, arena_*               vmap(), vmalloc(), vm_map_ram(): the areas, and lazy purges
    validate, validate_windows   predictions beside what the kernel reported
    whatif, *whatif*             the same workload on another machine
    costs, costing, calibrate    what the work costs, and what it was measured to cost
    figures, outcome, sites      the numbers that every report shows
    findings, *_findings         what they mean, in words
    kernels                      the compiled loops, named after the kernel's functions

Adding an architecture is described in :mod:`replay.machine.arches`, a kernel generation in
:mod:`replay.machine.generations`, a finding in :mod:`replay.findings`.
"""
