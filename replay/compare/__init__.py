"""Two runs beside each other: what changed, by how much more than noise, and what says nothing.

::

    figures   what is compared, and what each rests on
    side      one run: its figures with the sense in which each holds, by the document that tells it
    noise     what two captures of one workload differ by
    changes   a figure of both, per unit of work: changed, within the noise, a bound, not known
    sites     call sites joined by function, and those that became another API
    apart     what cannot be compared, and why
    run       all of it

Pure functions over figures: whoever has two documents has all that is needed.
"""
