"""Rules: what the figures of a trace mean. `report` tells what they find, `check` fails for it.

A rule says what it found as a record of figures; :mod:`hmtrace.report.findings` has the words.

::

    judge        every rule, and what is found in an outcome
    rule         what a rule is, and what it looks at
    evidence     what a rule has to know to say that there is nothing
    misses       calls that probes passed over
    figures      rules about what was counted
    waits        rules about tasks: who waits, who holds, who is slow
    splits       advice over other user/kernel splits
    storms       rules about purges and full flushes
    kmap_use     rules about kmap() that must not be called so
    local_order  rules about the order of local mappings
    arena        rules about allocations of address space
    machine      rules about the machine
    lowmem       rules about lowmem
    trace        rules about what the trace can and cannot tell

Adding a rule: a module (or a function in one of these) that finds it with its
:class:`replay.rules.rule.FindingRule`, a line in :data:`replay.rules.judge.RULES`, and its words.
"""
