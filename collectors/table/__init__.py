"""From raw events to the event table: a call and its return are one row.

::

    tabulate    the way of a piece of raw events to rows
    pairing     which return belongs to which entry
    naming      task names, sites
    pages       page frames of struct pages, and the reverse
    part        a piece of the table under way
    distinct    the values that a column has
    columns     how rows become polars columns
"""
