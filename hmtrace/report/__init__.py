"""Reports: pure functions from an outcome to a terminal picture or a JSON document.

Nothing here reads files or decides exit codes. :mod:`hmtrace.report.text` is light (no rich), so
error messages can use it; the other modules import rich and are imported by the commands that
draw with them.
"""
