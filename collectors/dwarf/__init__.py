"""Functions, lines and inlines of kernel addresses, from the debugging information of ELF files.

::

    places    what asks: a vmlinux and its modules' files, for the addresses of a capture
     │
    debug     one file: which units an address is in, and what they say of it
     │
    units     headers of units, their address ranges, headers of line programs
    layout    numbers of DWARF: tags, attributes, forms
    loops     what every entry of a unit goes through, compiled
    elf       sections of a file, checked against its size; relocations; its build id

Of a vmlinux of 300 MB only the units that an address is in are looked at. Everything in a file may
be wrong: what does not fit is an :class:`~collectors.errors.HmtraceError` with its offset.

Sources: DWARF Debugging Information Format, versions 4 and 5 (dwarfstd.org); the ELF chapters of
the System V ABI.
"""
