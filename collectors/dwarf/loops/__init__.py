"""What each entry of a unit, and each step of a line program, goes through.

::

    entries   abbreviations; functions and inlines of a unit
    ranges    which of them has an address
    lines     line programs
    values    numbers, strings and blocks, by their forms

Positions are offsets in a section, held as int64; addresses, too, as their bits. A read past the
end gives 0 and a position beyond the end, which ends every loop here: nothing is read there.
"""
