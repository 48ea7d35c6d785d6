"""Findings: what the figures of a trace mean, rule by rule.

::

    figures    rules about what was counted
    machine    rules about the machine
    trace      rules about what the trace can and cannot tell
    words      figures in words
"""
