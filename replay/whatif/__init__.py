"""The same workload on another machine.

::

    workload     a trace, read and ordered once for all target machines
    calls        the pool's calls in lock order, written down
    parts        the tables of a workload, in memory or in files
    written      the figures of a workload, written down
    run          a workload on a target machine, window by window
    placement    which page lies in which zone there
    pool         kmap() there
    arena        the arena there
"""
