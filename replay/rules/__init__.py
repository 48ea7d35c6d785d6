"""Rules: what the figures of a trace mean. `report` tells what they find, `check` fails for it.

A rule says what it found as a record of figures; :mod:`hmtrace.report.findings` has the words.

::

    judge         every rule, and what is found in an outcome
    rule          what a rule is, and what it looks at
    evidence      what a rule has to know to say that there is nothing
    misses        calls that probes passed over

    deadlock      tasks that hold slots of the pool and sleep for another
    sleepers      tasks that sleep for a slot, and how near a pool came to it
    held          slots that are held long, or for good
    kmap_use      kmap() that must not be called so
    crossed       kmap() that another task gives back
    pool_flushes  flushes of the pool, and walks over it for nothing
    local_depth   local mappings that are nested deep
    local_held    local mappings that are held long
    local_order   local mappings that are given back wrongly
    arena         allocations of address space that failed
    modules       the modules' own area
    purges        lazy purges of the arena
    full_flushes  flushes of all TLB entries
    slow          calls that took long
    cost          what mappings cost in all
    trace         what the trace does not hold
    log           what the kernel's log says
    machine       limits of the machine
    lowmem        lowmem that ran short
    splits        advice over other user/kernel splits

Adding a rule: a module (or a function in one of these) that finds it with its
:class:`replay.rules.rule.FindingRule`, a line in :data:`replay.rules.judge.RULES`, and its words.
"""
