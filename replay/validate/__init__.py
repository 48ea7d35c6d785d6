"""The model against the kernel: how much of what the kernel reported was predicted exactly.

::

    run         a trace, window by window, and its first divergence
    verdicts    what counts as exact
    sleeps      waits that the trace shows
"""
