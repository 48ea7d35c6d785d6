"""kmap_local_page() and kmap_atomic(): a stack of mappings per task, in slots of its CPU.

::

    stacks    what is mapped at which depth, piece by piece
    tally     the figures
    loops     the compiled loops
"""
