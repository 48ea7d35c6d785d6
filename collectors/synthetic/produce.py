"""From a scenario to a trace, the machine's files and the true outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from collectors.synthetic.kernel import Kernel
from collectors.synthetic.outputs.machine import describe, machine_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from collectors.synthetic.board import Board
    from collectors.synthetic.probes import TracedEvent
    from collectors.synthetic.scenario import Scenario

_TELL_EVERY = 20_000


class Writer(Protocol):
    """Writes a trace in one format."""

    format: str
    file_name: str

    def write(self, record: TracedEvent) -> None:
        """Write an event."""

    def close(self) -> None:
        """Write what is left; the stream stays open."""


class Production:
    """One run of a scenario.

    Parameters
    ----------
    scenario
        What the tasks do.
    board
        The machine.
    writer
        Gets every event in order of time.
    seed
        Of all chance: the same seed gives the same trace, byte for byte.
    events
        Events after which tasks wind down; None: as the scenario says.
    options
        Values of the scenario's options that differ from its own.
    progress
        Called with (events so far, events wanted) now and then.

    Attributes
    ----------
    files
        The machine's files by name, of the moment before the trace.

    Raises
    ------
    HmtraceError
        Exit code 2: an option that the scenario does not have, or a wrong value.
    """

    def __init__(
        self,
        scenario: Scenario,
        board: Board,
        writer: Writer,
        *,
        seed: int = 1,
        events: int | None = None,
        options: Mapping[str, int] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.events = scenario.events if events is None else events
        self.options = scenario.values(options or {})
        self._writer = writer
        self._progress = progress
        self._left = _TELL_EVERY
        sink = writer.write if progress is None else self._write_and_tell
        self.kernel = Kernel(board, f"{scenario.name}:{seed}", self.events, sink)
        self.files = machine_files(self.kernel)

    def _write_and_tell(self, record: TracedEvent) -> None:
        self._writer.write(record)
        self._left -= 1
        if not self._left and self._progress is not None:
            self._left = _TELL_EVERY
            self._progress(min(self.kernel.tracer.recorded, self.events), self.events)

    def run(self) -> dict[str, Any]:
        """Simulate and write.

        Returns
        -------
        dict
            The true outcome: ``pool``, ``local``, ``arena``, ``tlb``, ``addresses``, ``events``,
            what was asked for, and ``at_end``: tasks asleep for ever, frames still mapped.
        """
        kernel = self.kernel
        kernel.arena.start_worker()
        self.scenario.setup(kernel, self.options)
        kernel.tracer.engine.run()
        self._writer.close()
        truth = kernel.tracer.finish()
        pool = kernel.pool
        truth.pool.used_at_end = pool.used
        asleep = [{"pid": task.pid, "comm": task.comm} for task in pool.sleepers]
        mapped = [pfn for pfn, slot in sorted(pool.slot_of.items()) if pool.counts[slot] > 1]
        return {
            "scenario": self.scenario.name,
            "seed": self.seed,
            "events_wanted": self.events,
            "options": self.options,
            "machine": describe(kernel.board),
            "recorded": kernel.tracer.recorded,
            **truth.as_json(),
            "at_end": {"asleep_for_ever": asleep, "mapped_frames": mapped},
        }
