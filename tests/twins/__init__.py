"""One workload captured on two machines: what is foretold of the other, beside what it did.

::

    pairs     which captures are twins, and how a user would ask for the other's machine
    measure   foretells one of the other and compares
    evidence  whose the differences are: the model's or the workload's
    table     the rows, as text for docs/twins.md

``python -m tests.twins`` measures the pairs of ``fixtures/``; ``--captures FOLDER`` those of a
folder with the whole captures. ``tests/replay/test_twins.py`` holds the figures.
"""
