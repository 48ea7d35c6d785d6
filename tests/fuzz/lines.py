"""Which source lines ran: cheap, because a function that has run whole is not watched any more."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType


class Lines:
    """Lines of the modules below `roots` that run for the first time."""

    def __init__(self, roots: tuple[str, ...]) -> None:
        self.roots = roots
        self.left: dict[CodeType, set[int]] = {}
        self.new: list[str] = []

    def __enter__(self) -> Lines:
        self.new = []
        threading.settrace(self._call)
        sys.settrace(self._call)
        return self

    def __exit__(self, *_reason: object) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        code = frame.f_code
        left = self.left.get(code)
        if left is None:
            left = set()
            if code.co_filename.startswith(self.roots):
                left = {line for *_, line in code.co_lines() if line is not None}
                left.discard(code.co_firstlineno)
            self.left[code] = left
        return self._line if left else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            left = self.left[frame.f_code]
            if frame.f_lineno in left:
                left.discard(frame.f_lineno)
                self.new.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
        return self._line
