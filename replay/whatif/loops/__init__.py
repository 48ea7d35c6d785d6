"""The compiled loops of a what-if.

::

    holding     who holds which mapping, and what a conversion needs of a trace
    convert     kmap() calls as kmap_local_page()
"""
