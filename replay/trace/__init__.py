"""What windows of a trace hand on.

::

    windows      the event table in pieces
    beside       windows for a thread of their own
    columns      its columns as plain arrays
    tasks        when a task did something else
    losses       where events were lost
    sanitise     values within what the loops can count
    numbering    numbers for keys, over windows
    numbers      its compiled loops
    spool        rows kept on the disk
    parts        tables, in memory or in files, and columns that are too long for one
    carried      numbers of rows that are still open
"""
