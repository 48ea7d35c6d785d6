"""The same workload on another machine.

::

    run          a trace and a target machine, window by window
    placement    which page lies in which zone there
    pool         kmap() there
    arena        the arena there
"""
