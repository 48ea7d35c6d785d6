"""The model against the kernel: how much of what the kernel reported was predicted exactly.

::

    run         a trace, window by window
    verdicts    what counts as exact, and the first divergence
"""
