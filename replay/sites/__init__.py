"""Who maps: call sites of every API, how often and for how long.

::

    tally    counts windows of a trace
    loops    the compiled loops behind it
    names    the function of a site, the same in another build
    join     sites of several captures, by their symbols
"""
