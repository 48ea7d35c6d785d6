"""hmtrace: an analyser of 32-bit Linux highmem mapping behaviour.

The program: commands (typer) in :mod:`hmtrace.cli`, reports (rich, JSON) in
:mod:`hmtrace.report`. It imports :mod:`replay` and :mod:`collectors`; neither imports it. How to
add a command or a report is said there.
"""

__version__ = "0.1.0"
