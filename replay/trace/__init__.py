"""What windows of a trace hand on.

::

    tasks        when a task did something else
    losses       where events were lost
    sanitise     values that no machine has
    bounds       addresses and times within what the loops can count
    numbering    numbers for keys, over windows
    spool        rows kept on the disk
"""
