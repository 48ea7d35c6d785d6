"""JSON documents: the same figures as the terminal reports, under the names of the outcome."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from hmtrace import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hmtrace.report.source import Source
    from hmtrace.report.validation import Checked
    from replay.outcome import Outcome


def schema(command: str) -> dict[str, Any]:
    """Opening keys of every document."""
    return {"schema": f"hmtrace/{command}/1", "version": __version__}


def plain(value: Any) -> Any:
    """Value in the types that JSON has.

    Dataclasses and mappings become objects, sequences and sets arrays (sets sorted); keys become
    strings; what JSON has no word for (NaN, infinity) becomes null, anything else its ``str()``.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if hasattr(value, "items"):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):  # a numpy scalar
        return plain(value.item())
    return str(value)


def source_document(source: Source) -> dict[str, Any]:
    """Keys that say what was read: source, kernel release, clock, losses."""
    return {
        "source": {**asdict(source.origin), "sha256": source.sha256},
        "clock": source.clock,
        "clock_is_ns": source.clock_is_ns,
        "span_ns": source.span_ns,
        "lost": plain(source.lost.as_json()),
        "notes": list(source.notes),
    }


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Keys of one outcome, as `report` and both halves of `replay` have them."""
    from hmtrace.report.machine import machine_document

    return {
        "machine": machine_document(outcome.machine, outcome.layout),
        "span_ns": outcome.span_ns,
        "cpus": outcome.cpus,
        **{
            name: plain(getattr(outcome, name))
            for name in (
                "pool",
                "local",
                "arena",
                "tlb",
                "cost",
                "sites",
                "findings",
                "caveats",
            )
        },
    }


def observed_document(outcome: Outcome) -> dict[str, Any]:
    """Keys of what the kernel itself told, as `report` has them."""
    observed = outcome.observed
    if observed is None:
        return {}
    names = ("durations", "user_flushes", "stacks")
    return {name: plain(getattr(observed, name)) for name in names}


def validation_document(checked: Sequence[Checked]) -> dict[str, Any]:
    """Document of `validate`: one entry per capture, in the order given."""
    captures = []
    for one in checked:
        entry: dict[str, Any] = {"path": one.path}
        if one.entry is None:
            entry["error"] = one.error
        else:
            entry.update(plain(one.entry))
            entry.setdefault("layout", plain(one.layout))
            entry["lost"] = one.lost
        captures.append(entry)
    return {**schema("validate"), "captures": captures}
