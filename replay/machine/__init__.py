"""A machine: what it is, where everything lies in its address space, what its kernel does.

::

    model            a machine, given
    from_facts       from a capture's files
    from_addresses   from the addresses in its trace
    kconfig          from its kernel's configuration
    arches           what architectures differ in
    generations      what kernel releases differ in
    layout           its address space
    zones            its zones, watermarks and reserves
    tlb              what a flush of so many pages becomes
    costs.toml       what operations cost, figure by figure, with sources
    presets          boards, as examples of machine files
"""
