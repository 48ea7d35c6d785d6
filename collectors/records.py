"""Dataclasses whose classes are made in a tenth of the time: every start makes a hundred of them.

Python compiles the methods of every dataclass from a text of its own, which takes half a
millisecond: a tenth of a short report. Here all classes share the same few, which look up what
fields there are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False) -> Any:
        """As :func:`dataclasses.dataclass`, of which the other options are not needed."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen)
        methods = _SHARED | (_OF_FROZEN if frozen else {"__hash__": None})
        for name in methods.keys() - vars(cls).keys():
            setattr(cls, name, methods[name])
        return dataclasses.dataclass(init=False, repr=False, eq=False)(cls)


__all__ = ["dataclass", "field"]


def _values(record: Any) -> tuple[Any, ...]:
    """Values of the fields, in their order."""
    return tuple([getattr(record, name) for name in record.__match_args__])


def _init(self: Any, *values: Any, **named: Any) -> None:
    names: tuple[str, ...] = self.__match_args__
    own: dict[str, Any] = vars(self)
    own.update(zip(names, values, strict=False))
    twice = own.keys() & named.keys()
    own.update(named)
    for name in names:
        if name not in own:
            own[name] = _default(self, name)
    if twice or len(values) > len(names) or len(own) > len(names):
        msg = f"{type(self).__qualname__} has the fields {', '.join(names)}, each to be given once"
        raise TypeError(msg)
    if (finish := getattr(self, "__post_init__", None)) is not None:
        finish()


def _default(record: Any, name: str) -> Any:
    """What a field is that was not given."""
    known: dataclasses.Field[Any] = record.__dataclass_fields__[name]
    if known.default is not dataclasses.MISSING:
        return known.default
    if known.default_factory is not dataclasses.MISSING:
        return known.default_factory()
    msg = f"{type(record).__qualname__} misses the field {name}"
    raise TypeError(msg)


def _repr(self: Any) -> str:
    pairs = zip(self.__match_args__, _values(self), strict=True)
    return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in pairs)})"


def _eq(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: Any, name: str, *_: Any) -> None:
    msg = f"{type(self).__qualname__} is frozen: its {name} stays"
    raise dataclasses.FrozenInstanceError(msg)


_SHARED: Final[dict[str, Callable[..., Any]]] = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
}
_OF_FROZEN: Final[dict[str, Callable[..., Any]]] = {
    "__hash__": _hash,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
}
