"""What the kernel itself told beside the calls: how long they took, user flushes, stack traces.

::

    tally    the figures
    loops    the compiled loop over times
"""
