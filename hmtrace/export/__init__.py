"""What other programs open: one room for each format.

::

    perfetto      a trace for ui.perfetto.dev and the trace processor
    folded        call sites for flame graphs
    prometheus    figures for dashboards
"""
