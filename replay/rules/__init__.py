"""Findings: what the figures of a trace mean, rule by rule.

A rule says what it found as a record of figures; :mod:`hmtrace.report.findings` has the words.

::

    figures    rules about what was counted
    waits      rules about tasks: who waits, who holds, who is slow
    splits     advice over other user/kernel splits
    arena      rules about allocations of address space
    machine    rules about the machine
    trace      rules about what the trace can and cannot tell
"""
