"""kmap_local_page() and kmap_atomic(): a stack of mappings per task, in slots of its CPU.

::

    stacks    what is mapped at which depth, piece by piece
    events    what happened one by one, where that is asked for
    tally     the figures
    loops     the compiled loops
"""
