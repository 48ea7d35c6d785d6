"""What mapping work costs.

::

    formulas     what one call or flush costs on a machine, from its figures
    units        elementary operations that work is counted in
    causes       the names of what time goes to
    account      the work of a trace, summed up
    verdict      whether one machine is cheaper than another, over the ranges of costs
    times        how long the calls of a trace took
    samples      many durations, and their exact quartiles
    calibrate    the figures of a machine, taken from those of its own trace
"""
