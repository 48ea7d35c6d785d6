"""``make fuzz``: mutated and invented inputs for every reader, under bounds; exit 1 on findings."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from tests.fuzz.case import Case
from tests.fuzz.driver import Child, Fuzzer
from tests.fuzz.readers import READERS


def main() -> int:
    """Run the fuzzer, or one kept input."""
    options = _options()
    if options.replay is not None:
        return again(options.replay)
    wanted = [r for r in READERS if not options.reader or r.name in options.reader]
    fuzzer = Fuzzer(wanted, options.seed, options.folder, _tell, options.counts)
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was done so far is told
    try:
        fuzzer.run(options.seconds, options.inputs)
    except KeyboardInterrupt:
        fuzzer.close()
    for line in fuzzer.table():
        _tell(line)
    _tell(f"seed {options.seed}, {time.monotonic() - started:.0f} s, {len(fuzzer.found)} findings")
    return int(bool(fuzzer.found))


def again(kept: Path) -> int:
    """Run a kept input and tell what becomes of it."""
    case = Case.load(kept)
    child = Child([])
    verdict = child.run(case)
    child.close()
    folder = kept / "files"
    opened = folder / case.opened if case.opened else folder
    what = f"{case.reader}, {len(case.files)} files, {case.size} bytes"
    _tell(f"{what}: {verdict.trouble or 'nothing wrong'}")
    _tell(f"hmtrace {' '.join(case.arguments(opened))}")
    _tell(verdict.ended)
    return int(bool(verdict.trouble))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="in all (60)")
    parser.add_argument("--inputs", type=int, help="for each reader, instead of --seconds")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (1)")
    parser.add_argument(
        "--reader", action="append", choices=[r.name for r in READERS], help="only this one"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".fuzz"), help="keeps corpus and findings (.fuzz)"
    )
    parser.add_argument("--counts", type=Path, help="adds inputs and findings of readers to it")
    parser.add_argument("--replay", type=Path, help="run a kept input again")
    return parser.parse_args()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
