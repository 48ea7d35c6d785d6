"""A machine: what it is, where everything lies in its address space, what its kernel does.

::

    model            the types: a machine, its layout, an architecture; imports little
    generations      what kernel releases differ in
    kconfig          what build options differ in
    arches           what architectures differ in
    layout           a machine's address space
    zones            its zones, watermarks and reserves
    tlb              what a flush of so many pages becomes
    costs, .toml     what operations cost, figure by figure, with sources
    cpus             what is known closer of some CPUs, one TOML file for each
    from_addresses   a machine from the addresses in a trace
    from_facts       from a capture's files
    fit, told        where those files know better than the rules: find why, or believe them
    options          from another machine: what-if
    presets          boards, as examples of machine files
    words            a machine in a few words
"""
