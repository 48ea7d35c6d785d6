"""Stands for the program: ``python -S -E client.py SOCKET WORD...``. Imports next to nothing."""

from __future__ import annotations

import marshal
import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOL_SOCKET, socket
from array import array

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import NoReturn


def main(place: str, *words: str) -> NoReturn:
    """Hand over all that a command has of its process, and end as it does."""
    asking = socket(AF_UNIX)
    asking.connect(place)
    told = marshal.dumps((words, os.getcwd(), dict(os.environ)))  # noqa: PTH109
    streams = array("i", [0, 1, 2])
    asking.sendmsg([len(told).to_bytes(8, "little")], [(SOL_SOCKET, SCM_RIGHTS, streams)])
    asking.sendall(told)
    status = asking.recv(4)
    if not status:
        sys.exit("the server of tests/warm is gone")
    code = os.waitstatus_to_exitcode(int.from_bytes(status, "little"))
    os._exit(code if code >= 0 else 128 - code)  # of a signal as a shell says it


if __name__ == "__main__":
    main(*sys.argv[1:])
