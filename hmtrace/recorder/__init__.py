"""The recorder: one POSIX shell script for the board, with the probes that hmtrace understands.

``hmrecord.sh`` is the script but for what is generated: which functions are probed, and how
their values are read, is :mod:`collectors.probes`'s to say (:mod:`hmtrace.recorder.render`).
"""

from __future__ import annotations

from hmtrace.recorder.render import recorder_script

__all__ = ["recorder_script"]
