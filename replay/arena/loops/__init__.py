"""Compiled loops of the arena; ``.py_func`` of each is its readable reference.

::

    picked      the events that are looked at at all
    freetree    the free tree: the kernel's augmented red-black tree
    shapes      trees of different shapes over the same free blocks
    items       what the ordering works on: calls, state, registers
    order       allocations and give-backs in an order that explains the addresses
    overlaps    all orders of overlapping calls that do, and their trees
    judge       which answers no other state would have given
    evidence    for that: how far purges had come
    doubt       for that: what a snapshot does not tell
    paths       for that: what an answer tells of the tree's shape
    lazy        the list of lazily freed areas, and the hull of each purge
    blocks      vm_map_ram() of up to 32 pages
    forward     the calls served by the model alone, for other machines
    use         a map of pages in use, and its largest hole
"""
