"""Loops are compiled once, kept where nobody else can write, and compiled anew where need be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from collectors import compiling
from collectors.compiled import compile_noted, kinds, loop, noting, part, piece, store
from collectors.compiled.digest import CodeDigest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Counts(NamedTuple):
    """Named tuple of arrays, as the loops have them."""

    seen: NDArray[np.int64]
    left: NDArray[np.int32]


STEP = 3


@part
def add(counts: Counts, place: int, number: int) -> int:
    counts.seen[place] += number
    return counts.seen[place] // 2


@piece
def twice(number: int) -> int:
    return number * 2


def walk(counts: Counts) -> int:
    """A loop whose parts get an int32, a constant and an int64."""
    total = 0
    for i in range(counts.left.shape[0]):
        total += add(counts, 0, counts.left[i]) + add(counts, 1, STEP) + twice(counts.left[i])
    return total


def counts() -> Counts:
    return Counts(np.zeros(2, np.int64), np.array([5, 7, 11], np.int32))


TOTAL = 2 + 1 + 10 + 6 + 3 + 14 + 11 + 4 + 22


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A user without compiled loops."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(store.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    for cached in (store._is_usable, store._lock_file):
        cached.cache_clear()
    yield tmp_path / "home" / "hmtrace"
    monkeypatch.undo()
    for cached in (store._is_usable, store._lock_file):
        cached.cache_clear()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """Names of the loops that were compiled."""
    found: list[str | None] = []
    monkeypatch.setattr(compiling, "listeners", [found.append])
    return found


NAME = f"{__name__}.walk"


def files(base: Path) -> list[Path]:
    return sorted((base / "loops").glob("*.loop"))


def test_a_loop_is_compiled_once_and_loaded_then(home: Path, told: list[str | None]) -> None:
    made: Any = loop(walk)
    assert made(counts()) == TOTAL
    assert made(counts()) == TOTAL
    assert told == [NAME, None]
    assert len(add.dispatcher.overloads) == 1  # for an int32, a constant, and an int64
    assert len(files(home)) == 1
    assert stat.S_IMODE((home / "loops").stat().st_mode) == 0o700
    again: Any = loop(walk)
    assert again(counts()) == TOTAL
    assert told == [NAME, None]


@pytest.mark.usefixtures("home")
def test_python_may_call_parts(told: list[str | None]) -> None:
    some = counts()
    assert add(some, 1, 9) == 4
    assert twice(21) == 42
    assert some.seen.tolist() == [0, 9]
    assert [name for name in told if name] == [f"{__name__}.add", f"{__name__}.twice"]


def test_what_is_noted_is_compiled_later_the_most_code_first(
    home: Path, told: list[str | None]
) -> None:
    few: Any = loop(inner_of)
    much: Any = loop(walk)
    with noting() as noted:
        assert few(counts()) == 0
        assert much(counts()) == TOTAL  # by Python
        assert much(counts()) == TOTAL
    assert len(noted) == 2
    assert told == []
    assert files(home) == []
    compile_noted(noted)
    assert told == [NAME, None, f"{__name__}.inner_of", None]
    assert len(files(home)) == 2


def inner_of(some: Counts) -> int:
    return some.seen[0]


@loop
def outer(some: Counts) -> int:
    return inner(some)


@loop
def inner(some: Counts) -> int:
    return some.seen[0]


def test_compiled_code_calls_no_loops() -> None:
    """Of a loaded one there is nothing that could be linked."""
    assert inner(counts()) == 0
    with pytest.raises(Exception, match="inner is a loop"):
        outer(counts())


@pytest.mark.parametrize("damage", ["empty", "half", "noise", "bit", "foreign"])
def test_damaged_files_are_compiled_anew(home: Path, told: list[str | None], damage: str) -> None:
    made: Any = loop(walk)
    assert made(counts()) == TOTAL
    (file,) = files(home)
    whole = file.read_bytes()
    if damage == "foreign":  # whole, but of another numba
        store.keep(file.stem, b"no pickle of ours")
    else:
        middle = len(whole) // 2
        flipped = bytes([whole[middle] ^ 1])
        file.write_bytes(
            {
                "empty": b"",
                "half": whole[:middle],
                "noise": np.random.default_rng(1).bytes(5000),
                "bit": whole[:middle] + flipped + whole[middle + 1 :],
            }[damage]
        )
    again: Any = loop(walk)
    assert again(counts()) == TOTAL
    assert told == [NAME, None, NAME, None]
    third: Any = loop(walk)
    assert third(counts()) == TOTAL
    assert len(told) == 4


def test_a_full_disk_and_a_closed_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of temporary files takes what the first one does not; else nothing is kept."""
    write = store.Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.is_relative_to(tmp_path / "home"):
            write(path, content[:100])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(store.Path, "write_bytes", full)
    made: Any = loop(walk)
    assert made(counts()) == TOTAL
    assert [path.name for path in (home / "loops").iterdir()] == ["lock"]
    assert len(files(tmp_path / "tmp" / f"hmtrace-{os.getuid()}")) == 1


def test_without_any_folder_a_loop_still_runs(
    home: Path, tmp_path: Path, told: list[str | None]
) -> None:
    home.parent.write_text("a file where the folder should be")
    (tmp_path / "tmp").write_text("and here")
    made: Any = loop(walk)
    assert made(counts()) == TOTAL
    assert list(store.folders()) == []
    assert told == [NAME, None]


def test_links_and_folders_of_others_are_not_used(home: Path, tmp_path: Path) -> None:
    """Nor is anything behind them removed."""
    victim = tmp_path / "victim"
    (victim / "loops").mkdir(parents=True)
    home.parent.mkdir()
    home.symlink_to(victim)
    base = tmp_path / "tmp" / f"hmtrace-{os.getuid()}"
    base.mkdir(parents=True)
    base.chmod(0o777)
    assert list(store.folders()) == []
    assert [path.name for path in victim.iterdir()] == ["loops"]
    store._is_usable.cache_clear()
    base.chmod(0o700)
    assert list(store.folders()) == [base / "loops"]


def test_folders_of_former_versions_go(home: Path, tmp_path: Path) -> None:
    """Only what is theirs without a doubt, and was not used for a week."""

    def folder(name: str, *, age: float = 8, mode: int = 0o700, file: str = "loop-9.nbi") -> Path:
        made = home / name
        (made / "pool_1f").mkdir(parents=True)
        (made / "pool_1f" / file).write_text("x")
        made.chmod(mode)
        os.utime(made, (time.time() - age * 86400,) * 2)
        return made

    home.mkdir(parents=True, mode=0o700)
    old, oldest = folder("0123456789abcdef"), folder("f" * 16, age=400, file="loop-9.1.nbc")
    stay = [
        folder("0" * 16, age=6),
        folder("1" * 16, mode=0o755),
        folder("2" * 16, file="thesis.txt"),
        folder("3" * 15),
        folder("workload-0123456"),
    ]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "loop.nbi").write_text("mine")
    (home / ("4" * 16)).symlink_to(tmp_path / "elsewhere")
    within = folder("5" * 16)
    (within / "link.nbi").symlink_to(tmp_path / "elsewhere")
    os.utime(within, (0, 0))
    assert store.keep(f"m.loop-{1:024x}", b"x")
    assert not old.exists()
    assert not oldest.exists()
    assert all((place / "pool_1f").exists() for place in (*stay, within))
    assert (tmp_path / "elsewhere" / "loop.nbi").exists()


def test_without_a_compiler_traces_are_refused(home: Path, tmp_path: Path) -> None:
    def run(*words: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hmtrace", *map(str, words)]
        return subprocess.run(
            command, env=os.environ | more, capture_output=True, text=True, check=False
        )

    waiters = Path(__file__).parents[2] / "fixtures" / "i386-hog-a-waiters-pae-smp2"
    refused = run("info", waiters, NUMBA_DISABLE_JIT="1")
    assert refused.returncode == 2
    assert "NUMBA_DISABLE_JIT forbids to compile" in refused.stderr
    assert "unset NUMBA_DISABLE_JIT" in refused.stderr


def test_the_folder_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LIMIT", 5000)
    names = [f"m.loop-{n:024x}" for n in range(6)]
    for age, name in enumerate(names[:3]):
        assert store.keep(name, bytes(1000))
        os.utime(home / "loops" / f"{name}.loop", (age, age))
    (home / "loops" / "notes").write_text("mine")
    os.utime(home / "loops" / "notes", (0, 0))
    assert store.load(names[0]) == bytes(1000)  # used: the second is now the oldest
    for name in names[3:]:
        assert store.keep(name, bytes(1000))
    kept = {name for name in names if store.load(name)}
    assert kept == {names[0], *names[3:]}
    assert (home / "loops" / "notes").exists()


def test_two_processes_share_the_work(home: Path) -> None:
    """Each loop is compiled by one of them, while the other waits for it."""
    code = (
        "import collectors.compiling as c, sys\n"
        "from collectors.compiled import _Loop\n"
        "make = _Loop._make\n"
        "def counted(self, *rest):\n"
        "    print(self._full_name, flush=True)\n"
        "    make(self, *rest)\n"
        "_Loop._make = counted\n"
        "from tests.collectors import test_compiled as t\n"
        "assert t.loop(t.walk)(t.counts()) == t.TOTAL\n"
    )
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(said).split() == ["tests.collectors.test_compiled.walk"]
    assert len(files(home)) == 1


SOURCE = """
import numpy as np
from collectors.compiled import part
SLOTS = 512
TABLE = np.arange(4)
def inner(x):
    "What it is for."
    return x + SLOTS
step = part(inner)
def run(x):
    for i in range(3):
        x += step(x) + TABLE[i]
    return x
def other(x):
    return x
"""


def digest_of(source: str) -> str:
    module = types.ModuleType("tests.invented")
    exec(source, vars(module))
    return CodeDigest().of(module.run)


def test_what_a_loop_is_made_of_decides() -> None:
    """Its own code, its parts and the constants of both; not comments, nor what it does not use."""
    first = digest_of(SOURCE)
    changed = {
        digest_of(SOURCE.replace(*change))
        for change in (
            ("SLOTS = 512", "SLOTS = 1024"),
            ("np.arange(4)", "np.arange(5)"),
            ("return x + SLOTS", "return x - SLOTS"),
            ("range(3)", "range(4)"),
            ("part(inner)", "part(inner, inlined=True)"),
        )
    }
    assert len(changed | {first}) == 6
    for same in (
        ("return x\ndef", "return x\n\n\n# a comment\ndef"),
        ("What it is for.", "What it was for."),
        ("def other(x):\n    return x", "def other(x):\n    return x + 1"),
    ):
        assert digest_of(SOURCE.replace(*same)) == first


ROW = np.dtype([("ts", np.int64), ("values", np.uint64, (4,)), ("cpu", np.uint8)], align=True)
READ_ONLY = np.arange(3, dtype=np.uint32)
READ_ONLY.flags.writeable = False
TABLE = np.arange(12.0).reshape(3, 4)
VALUES = {
    "counts": counts(),
    "numbers": (1, -(1 << 63), 1 << 63, True, 0.5, None, np.int8(1), np.uint64(2), np.bool_(0)),
    "floats": (np.float32(1), np.float64(1), 0.0, float("nan")),
    "tuples": ((), (1, 2), (1, 2.0), ((READ_ONLY,),)),
    "layouts": (TABLE, TABLE.T, TABLE[:, ::2], TABLE[::2], TABLE[0], np.zeros((2, 0))),
    "one row": (TABLE[:1], TABLE[:1].T, TABLE[:, :1]),
    "widths": tuple(np.zeros(1, kind) for kind in "?bBhHiIlLqQfd"),
    "read-only": READ_ONLY,
    "others": (np.zeros(1, "M8[ns]"), np.zeros(1, "S4"), "word", 1j, np.datetime64(1, "s")),
}


@pytest.mark.parametrize("name", VALUES)
def test_kinds_are_told_as_numba_does(name: str) -> None:
    from numba import typeof

    values = VALUES[name] if type(VALUES[name]) is tuple else (VALUES[name],)
    for value in values:
        assert kinds.words([value]) == kinds.describe([typeof(value)])
    keys = {kinds.key(value): kinds.words([value]) for value in values}
    for value in values:  # the same key never stands for two kinds
        assert keys[kinds.key(value)] == kinds.words([value])


def test_records_differ_by_name_place_and_kind_of_a_field() -> None:
    other = [
        np.dtype([("ts", np.int64), ("values", np.uint64, (5,)), ("cpu", np.uint8)], align=True),
        np.dtype([("ts", np.int64), ("values", np.uint64, (4,)), ("cpu", np.uint8)]),
        np.dtype([("at", np.int64), ("values", np.uint64, (4,)), ("cpu", np.uint8)], align=True),
        np.dtype([("ts", np.uint64), ("values", np.uint64, (4,)), ("cpu", np.uint8)], align=True),
    ]
    told = {kinds.words([np.zeros(1, dtype)]) for dtype in (ROW, *other)}
    assert len(told) == 5
    assert kinds.words([np.zeros(2, ROW)]) in told
    assert kinds.words([np.zeros(2, ROW).view(np.recarray)]) in told
    assert "ts: int64 at 0, values: uint64 (4,) at 8" in kinds.words([np.zeros(1, ROW)])


def test_fields_of_named_tuples_are_told_by_name() -> None:
    other = NamedTuple("Counts", [("left", Any), ("seen", Any)])  # noqa: UP014
    one, two = (kinds.words([made(*counts())]) for made in (Counts, other))
    assert one == (f"{__name__}.Counts(seen: array(int64, 1d, C), left: array(int32, 1d, C))")
    assert two != one


def divide(counts: Counts, number: int) -> Any:
    """A loop that may fail, and has more than one number to say."""
    return counts.left[0] // number, counts.seen[0], True, 0.5


KEPT = """
import sys
import numpy as np
from collectors import compiling
compiling.listeners.append(print)
from tests.collectors import test_compiled as t
made, rest = t.loop(t.walk), t.loop(t.divide)
assert made(t.counts()) == t.TOTAL
assert rest(t.counts(), 2) == (2, 0, True, 0.5)
print("numba" in sys.modules)
try:
    rest(t.counts(), 0)
except ZeroDivisionError as error:
    print(error)
assert rest(t.counts(), number=5) == (1, 0, True, 0.5)
t.compile_after(made)
"""


def compile_after(made: Any) -> None:
    """numba shares with what was loaded without it what it has of modules in C."""
    some = counts()
    narrow = Counts(some.seen, some.left.astype(np.int16))
    assert made(narrow) == TOTAL
    assert made(counts()) == TOTAL


@pytest.mark.usefixtures("home")
def test_what_is_kept_runs_without_numba() -> None:
    for function, args in ((walk, ()), (divide, (2,))):
        loop(function)(counts(), *args)
    done = subprocess.run(
        [sys.executable, "-c", KEPT], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split("\n") == ["False", "integer division by zero", NAME, "None", ""]
