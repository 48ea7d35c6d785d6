"""Patterns of the program take time that grows with the line, not with its square.

A machine's files and traces come from somebody else: 200 KB of blanks in a cpuinfo once kept a
pattern busy for hours. Every pattern is taken from the loaded modules or from the source, and fed
with lines that are made of the pattern itself: what comes before one of its repetitions, then
what it repeats, many times, then something that fits nowhere.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import re._constants as codes  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("collectors", "replay", "hmtrace")
FEW: Final = 16
"""Repetitions up to a bound of as many are no danger by themselves."""
LONGEST: Final = 1 << 13
"""Repetitions that are tried at most: a time that grows with their square is 67 million steps long
then, 0.02 s if a step takes but a third of a nanosecond, which is :data:`SLOW` twice."""
SLOW: Final = 0.01
"""Seconds from which on two lengths are compared."""
FOREIGN: Final = "\x01"
_CALLS: Final = frozenset(
    ("compile", "match", "search", "fullmatch", "sub", "split", "finditer", "findall")
)
_CALL: Final = re.compile(r"\bre\s*\.")


def _held(value: Any, depth: int = 0) -> Iterator[re.Pattern[Any]]:
    """Patterns in a module's variable."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth < 5 and isinstance(value, dict):
        for item in value.values():
            yield from _held(item, depth + 1)
    elif depth < 5 and isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from _held(item, depth + 1)


def _modules() -> Iterator[str]:
    for name in PACKAGES:
        package = importlib.import_module(name)
        yield name
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            yield found.name


def _written(path: Path) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Calls of ``re`` in a source file, and their first argument."""
    source = path.read_text()
    if not _CALL.search(source):  # most files: parsing them all takes seconds
        return
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "re"
            and node.func.attr in _CALLS
        ):
            yield node, node.args[0]


def _sources() -> list[Path]:
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def _all() -> dict[tuple[Any, int], str]:
    """Pattern and flags, and where it stands."""
    found: dict[tuple[Any, int], str] = {}
    for name in _modules():
        if name.endswith("__main__"):
            continue
        for variable, value in vars(importlib.import_module(name)).items():
            for pattern in _held(value):
                found.setdefault((pattern.pattern, pattern.flags), f"{name}.{variable}")
    for path in _sources():
        for call, argument in _written(path):
            if isinstance(argument, ast.Constant) and call.func.attr != "compile":  # type: ignore[attr-defined]
                where = f"{path.relative_to(ROOT)}:{call.lineno}"
                source = argument.value
                if call.func.attr in ("match", "fullmatch"):  # type: ignore[attr-defined]
                    is_bytes = isinstance(source, bytes)
                    source = b"\\A(?:%b)" % source if is_bytes else rf"\A(?:{source})"
                found.setdefault((source, re.compile(source).flags), where)
    return found


PATTERNS: Final = _all()


def _member(items: list[Any]) -> str:
    """A character of a set."""
    if items and items[0][0] is codes.NEGATE:
        fits = re.compile(_spelled(items))
        return next(c for c in "a 0:-\té" + "".join(map(chr, range(33, 127))) if fits.match(c))
    for op, value in items:
        if op is codes.LITERAL:
            return chr(value)
        if op is codes.RANGE:
            return chr(value[0])
        if op is codes.CATEGORY:
            return _of_category(value)
    raise AssertionError(items)


def _spelled(items: list[Any]) -> str:
    """A negated set as a pattern again."""
    names = {
        codes.CATEGORY_SPACE: r"\s", codes.CATEGORY_DIGIT: r"\d", codes.CATEGORY_WORD: r"\w",
        codes.CATEGORY_NOT_SPACE: r"\S", codes.CATEGORY_NOT_DIGIT: r"\D",
        codes.CATEGORY_NOT_WORD: r"\W",
    }  # fmt: skip
    out = "[^"
    for op, value in items[1:]:
        if op is codes.LITERAL:
            out += re.escape(chr(value))
        elif op is codes.RANGE:
            out += f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        else:
            out += names[value]
    return out + "]"


def _of_category(category: Any) -> str:
    return {
        codes.CATEGORY_SPACE: " ",
        codes.CATEGORY_DIGIT: "0",
        codes.CATEGORY_WORD: "a",
        codes.CATEGORY_NOT_SPACE: "a",
        codes.CATEGORY_NOT_DIGIT: "a",
        codes.CATEGORY_NOT_WORD: ":",
    }[category]


def _sample(parsed: Any) -> str:
    """A text that a pattern, or a piece of one, may match."""
    out = ""
    for op, value in parsed:
        if op is codes.LITERAL:
            out += chr(value)
        elif op is codes.NOT_LITERAL:
            out += "a" if value != ord("a") else "b"
        elif op is codes.ANY:
            out += "a"
        elif op is codes.IN:
            out += _member(value)
        elif op is codes.CATEGORY:
            out += _of_category(value)
        elif op is codes.BRANCH:
            out += _sample(value[1][0])
        elif op is codes.SUBPATTERN:
            out += _sample(value[3])
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            out += _sample(value[2]) * max(value[0], 1)
        elif op is codes.ATOMIC_GROUP:
            out += _sample(value)
        elif op in (codes.AT, codes.ASSERT, codes.ASSERT_NOT, codes.GROUPREF):
            continue
        else:
            raise AssertionError(op)
    return out


def _attacks(parsed: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of a beginning and what is repeated behind it, one for each repetition."""
    for op, value in parsed:
        if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            if value[1] > FEW:
                yield before, _sample(value[2])
                yield "", before + _sample(value[2])
                for char in " a0:[":
                    yield before, char
            yield from _attacks(value[2], before)
        elif op is codes.BRANCH:
            for branch in value[1]:
                yield from _attacks(branch, before)
        elif op is codes.SUBPATTERN:
            yield from _attacks(value[3], before)
        elif op is codes.ATOMIC_GROUP:
            yield from _attacks(value, before)
        before += _sample([(op, value)])


def _seconds(pattern: re.Pattern[Any], text: Any) -> float:
    """Time of the processor of a search in vain, where it takes long the best of three."""
    times: list[float] = []
    while len(times) < (3 if times and times[0] > SLOW / 8 else 1):
        started = time.process_time()
        pattern.search(text)
        times.append(time.process_time() - started)
    return min(times)


def growth(pattern: re.Pattern[Any], begin: str, body: str) -> float:
    """How much longer a search takes in a line of double length, 0 where all are quick."""
    # A repetition of many characters takes as many steps: fewer of them come to the same number.
    longest = int(LONGEST / len(body) ** 0.5)
    count = longest >> 5
    before = 0.0
    while count <= longest:
        text = begin + body * count + FOREIGN
        taken = _seconds(pattern, text.encode() if isinstance(pattern.pattern, bytes) else text)
        if before >= SLOW / 4 and taken >= SLOW:
            return taken / before
        before = taken
        count *= 2
    return 0.0


@pytest.mark.parametrize(("source", "flags"), PATTERNS, ids=PATTERNS.values())
def test_time_grows_with_the_line(source: Any, flags: int) -> None:
    pattern = re.compile(source, flags)
    parsed = parser.parse(source, flags)
    whole = _sample(parsed)
    tried = {("", whole), ("", whole[:-1]), *_attacks(parsed)}
    worst = {(growth(pattern, *attack), *attack) for attack in tried if attack[1]}
    ratio, begin, body = max(worst, default=(0.0, "", ""))
    for _ in range(5):  # a busy machine: what is measured once may be somebody else's doing
        if ratio >= 3:
            ratio = growth(pattern, begin, body)
    assert ratio < 3, f"{begin!r}, then {body!r} again and again: twice as long takes {ratio:.1f}"


def test_every_pattern_is_found() -> None:
    """What is no literal has to be held by a module's variable."""
    compiled = [
        (path, call)
        for path in _sources()
        for call, argument in _written(path)
        if call.func.attr != "compile" and not isinstance(argument, ast.Constant)  # type: ignore[attr-defined]
    ]
    assert compiled == []
    assert len(PATTERNS) > 80


def test_what_growth_finds() -> None:
    assert growth(re.compile(r"^(\w[\w -]*?)\s*:"), "a", " ") > 3
    assert growth(re.compile(r"\d+ GNU"), "", "1") > 3
    assert growth(re.compile(r"^\d+ GNU"), "", "1") < 3
    assert growth(re.compile(r"\d{1,20} GNU"), "", "1") < 3


def test_digits_are_those_of_ascii() -> None:
    """str.isdigit is true of superscripts, which int() does not read."""
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in _sources()
        for line in path.read_text().split("\n")
        if re.search(r"\.(isdigit|isnumeric|isdecimal)\(\)", line) and "isascii()" not in line
    ]
    own = "hmtrace/report/local.py"  # its own words
    assert [line for line in wrong if not line.startswith(own)] == []
