"""Reports: pure functions from an outcome to a terminal picture or a JSON document.

Adding a section: a function from the figures (:mod:`replay.outcome`) to what rich can print, made
of the pieces in :mod:`hmtrace.report.parts`, and a line in :mod:`hmtrace.report.terminal`; the same
figures in :mod:`hmtrace.report.document`, under the names that they have in the outcome. How it
looks at 80 columns is kept in ``tests/hmtrace/golden``.

Nothing here reads files or decides exit codes. :mod:`hmtrace.report.text` is light (no rich), so
error messages can use it; the other modules import rich and are imported by the commands that
draw with them.
"""
