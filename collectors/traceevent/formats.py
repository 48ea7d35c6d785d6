"""Event formats as the kernel describes them in text (tracefs ``events/*/*/format``).

A description names each field's C declaration, offset, size and sign. Nothing about a record is
assumed beyond what its description says; even the place of ``common_type`` is read from it.
Source: kernel/trace/trace_events.c (``f_show``), kernel/trace/trace_entries.h.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Final

from collectors.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELD: Final = re.compile(
    r"field(?: special)?:([^;]{0,400});\s*offset:(\d{1,9});\s*size:(\d{1,9});(?:\s*signed:(\d))?"
)
_DECLARATION: Final = re.compile(
    r"^(.{0,400}?)(\w{1,400}+)\s{0,40}+((?:\[[^\]]{0,200}\]\s{0,8}+){0,8})$", re.DOTALL
)
_HEAD: Final = re.compile(rb"name:[ \t]*([^\n]{1,256})\nID:[ \t]*(\d{1,9})\b")
_WIDTHS: Final = {
    "char": 1, "signed char": 1, "unsigned char": 1, "u8": 1, "__u8": 1, "s8": 1, "__s8": 1,
    "uint8_t": 1, "bool": 1, "_Bool": 1,
    "short": 2, "unsigned short": 2, "u16": 2, "__u16": 2, "s16": 2, "__s16": 2, "uint16_t": 2,
    "__le16": 2, "__be16": 2,
    "int": 4, "unsigned int": 4, "unsigned": 4, "u32": 4, "__u32": 4, "s32": 4, "__s32": 4,
    "uint32_t": 4, "__le32": 4, "__be32": 4, "pid_t": 4,
    "u64": 8, "__u64": 8, "s64": 8, "__s64": 8, "uint64_t": 8, "__le64": 8, "__be64": 8,
    "long long": 8, "unsigned long long": 8,
}  # fmt: skip
"""Bytes of an array's elements; `long` and pointers follow the traced kernel."""
_CHARS: Final = frozenset({"char", "signed char", "unsigned char"})
FUNCTION_FIELDS: Final = {
    "function": "ip",
    "funcgraph_entry": "func",
    "fgraph_retaddr_entry": "func",
    "funcgraph_exit": "func",
}
"""Tracers' own events (kernel/trace/trace_entries.h) and their field for the traced function."""


@dataclass(frozen=True)
class Field:
    """One field of an event.

    Attributes
    ----------
    name
        As in the declaration, without brackets.
    type
        C type, without ``__data_loc``.
    offset, size
        Bytes, from the start of the record; for a dynamic array those of its locator, which is
        u32: length in the upper, place in the lower half.
    signed
        For numbers.
    array
        Declared with brackets.
    dynamic
        ``""``, ``"data"`` (``__data_loc``: place from the start of the record) or ``"rel"``
        (``__rel_loc``: place from the end of the locator).
    width
        Bytes of one element; `size` for a scalar.
    """

    name: str
    type: str
    offset: int
    size: int
    signed: bool
    array: bool
    dynamic: str
    width: int

    @property
    def is_number(self) -> bool:
        """A scalar that fits into 64 bits."""
        return not self.array and not self.dynamic and self.size in (1, 2, 4, 8)

    @property
    def is_text(self) -> bool:
        """An array of char."""
        return self.array and self.type in _CHARS

    @property
    def open_ended(self) -> bool:
        """An array that may be shorter or longer than declared.

        ``char buf[]`` has size 0 and takes the rest of the record; ``kernel_stack`` declares
        eight callers and stores as many as there were.
        """
        return self.array and not self.dynamic and (self.size == 0 or self.name == "caller")


def parse_field(declaration: str, offset: int, size: int, sign: str | None, word: int) -> Field:
    """Understand one declaration.

    Parameters
    ----------
    declaration
        ``unsigned long __probe_ip``, ``__data_loc char[] name``, ``u32 c0[64]``.
    offset, size
        Bytes.
    sign
        ``"1"``, ``"0"``, or None where the kernel did not say (before 2.6.32).
    word
        Bytes of the traced kernel's long.
    """
    text = declaration.strip()
    dynamic = ""
    for mark, kind in (("__data_loc ", "data"), ("__rel_loc ", "rel")):
        if text.startswith(mark):
            dynamic, text = kind, text.removeprefix(mark)
    match = _DECLARATION.match(text)
    kind_of, name, brackets = match.groups() if match else ("", text, "")
    array = bool(brackets) or bool(dynamic)
    kind_of = kind_of.strip()
    if dynamic:
        kind_of = kind_of.partition("[")[0].strip()
    kind_of = kind_of.removeprefix("const ")
    signed = sign == "1" if sign is not None else not kind_of.startswith(("u", "__u"))
    width = size
    if array:
        length = re.search(r"\[(\d{1,9})\]", brackets)
        width = _width(kind_of, word)
        if not dynamic and length and int(length[1]) and size % int(length[1]) == 0 and size:
            width = size // int(length[1])
    return Field(name, kind_of, offset, size, signed, array, dynamic, width)


def _width(kind_of: str, word: int) -> int:
    """Bytes of a C type; those of a long where it is not known."""
    return word if kind_of.endswith("*") else _WIDTHS.get(kind_of, word)


@dataclass(frozen=True)
class EventFormat:
    """One event: system, name, id, and its description, understood when first asked for."""

    system: str
    name: str
    id: int
    text: str
    word: int

    @cached_property
    def fields(self) -> dict[str, Field]:
        """Every field by name, in the order of the description; the first of a name counts."""
        found: dict[str, Field] = {}
        for line in self.text.splitlines():
            match = _FIELD.search(line)
            if match:
                decl, offset, size, sign = match.groups()
                field = parse_field(decl, int(offset), int(size), sign, self.word)
                found.setdefault(field.name, field)
        return found

    @property
    def own(self) -> list[Field]:
        """Fields without the common ones."""
        return [f for f in self.fields.values() if not f.name.startswith("common_")]

    def number(self, *names: str) -> Field | None:
        """Return the first of `names` that is a number; None where there is none."""
        for name in names:
            field = self.fields.get(name)
            if field is not None and field.is_number:
                return field
        return None

    @property
    def print_fmt(self) -> str:
        """The ``print fmt:`` line, as text; hmtrace decodes fields, not formats."""
        return self.text.partition("print fmt:")[2].strip()


def parse_event(system: str, text: bytes | memoryview, word: int) -> EventFormat | None:
    """Read one description.

    Parameters
    ----------
    system
        Group of the event: ``sched``, ``hm``, ``ftrace``.
    text
        The ``format`` file.
    word
        Bytes of the traced kernel's long.

    Returns
    -------
    EventFormat or None
        None where the text has no name or no ID.
    """
    raw = bytes(text)
    head = _HEAD.search(raw)
    if head is None or int(head[2]) > 0xFFFF:  # common_type is u16
        return None
    name = head[1].decode("utf-8", "replace").strip()
    return EventFormat(system, name, int(head[2]), raw.decode("utf-8", "replace"), word)


def struct_fields(text: str, word: int) -> Iterator[Field]:
    """Read the fields of ``header_page`` (struct buffer_data_page)."""
    for match in _FIELD.finditer(text):
        decl, offset, size, sign = match.groups()
        yield parse_field(decl, int(offset), int(size), sign, word)
