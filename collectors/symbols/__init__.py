"""Names of addresses: kallsyms and System.map (:mod:`~collectors.symbols.table`)."""
