"""The same workload on another machine.

::

    workload     a trace, read and ordered once for all target machines
    calls        the pool's calls in lock order, as columns
    pages        numbers for the pages that are mapped
    numbered     the windows with these numbers, counted but for the pool
    written      the figures of a workload, written down
    run          a workload on a target machine
    placement    which page lies in which zone there
    pool         kmap() there
    turns        who holds what of kmap(), for a conversion
    convert      kmap() calls as kmap_local_page()
    page_tables  those in highmem, and who maps them
    rest         kmap_local() and the call sites there
    arena        the arena there
    requests     what it is asked there, from the arena's calls here
    loops        the compiled loops of a conversion
"""
