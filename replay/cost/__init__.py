"""What mapping work costs.

::

    formulas     what one call or flush costs on a machine, from its figures
    account      the work of a trace, summed up
    calibrate    the figures of a machine, measured from its own trace
"""
