"""Names of addresses.

::

    table     kallsyms and System.map, and the symbols of an ELF file
    places    functions, lines and inlines of addresses, by a vmlinux and its modules' files
    kept      what those said, kept between runs
"""
