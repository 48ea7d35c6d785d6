"""The server: imports the program once, and forks for every command until its input ends.

A fork copies the thread that forks and no other. So nothing may be imported here that starts
threads which a command would wait for; that is checked before the first fork.
"""

from __future__ import annotations

import gc
import marshal
import os
import pkgutil
import selectors
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

PACKAGES = ("collectors", "replay", "hmtrace")
OTHERS = ("numpy.ma", "encodings.utf_8_sig", "importlib.resources.readers")
"""What libraries import as they are first used."""
LATER = {
    "collectors.arrow.writer",  # makes polars start its pool
    "collectors.compiled.making",  # numba, which a command needs only to compile
    "collectors.compiled.linked",
}
IDLE = "polars-ooc-clea"
"""Thread that polars starts when it is imported, to remove what did not fit into memory."""


def get_ready() -> None:
    """Import what commands import, and look whether a fork is safe then.

    Raises
    ------
    SystemExit
        Threads were started.
    """
    from collectors.compiled.machinecode import loader, made_for
    from hmtrace.cli.workloads import source_digest

    for package in map(import_module, PACKAGES):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in LATER and not module.name.endswith(".__main__"):
                import_module(module.name)
    for name in OTHERS:
        import_module(name)
    for keep in (loader, made_for, source_digest):
        keep()
    others = [task for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())]
    started = {(task / "comm").read_text().strip() for task in others} - {IDLE}
    if started:
        raise SystemExit(f"tests/warm: imports started threads, {started}; see LATER")
    gc.collect()
    gc.freeze()  # else the first search for cycles in a child copied every page


def serve(listening: socket.socket) -> None:
    """Fork for each who connects; say how the child ended."""
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin, selectors.EVENT_READ)
    waiting.register(listening, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is listening:
                client, _ = listening.accept()
                child = os.fork()
                if not child:
                    _become(client)
                waiting.register(os.pidfd_open(child), selectors.EVENT_READ, (child, client))
                continue
            child, client = key.data
            waiting.unregister(key.fileobj)
            os.close(key.fd)
            with client, suppress(OSError):
                client.sendall(os.waitpid(child, 0)[1].to_bytes(4, "little"))


def _become(client: socket.socket) -> NoReturn:
    """Run a command in the client's place, in a child."""
    try:
        _take_on(client)
        from hmtrace.__main__ import main

        main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def _take_on(client: socket.socket) -> None:
    """Have the client's words, folder, environment and descriptors."""
    head, descriptors, _, _ = socket.recv_fds(client, 8, 3)
    with client.makefile("rb") as told:
        words, folder, environment = marshal.loads(told.read(int.from_bytes(head, "little")))
    client.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = list(words)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    get_ready()
    serve(socket.socket(fileno=int(sys.argv[1])))
