"""From the stamps of the ring buffer to the times that `trace-cmd report` shows.

Order of corrections (trace-cmd lib/trace-cmd/trace-input.c, ``timestamp_calc``): a guest's
clock to its host's, cycles to nanoseconds, then the offsets that were asked for at recording.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from collectors.records import dataclass, field
from collectors.tracecmd_dat import layout
from collectors.traceevent.cursor import Cursor, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHOSEN = re.compile(r"\[([\w.-]+)\]")
_MASK64 = (1 << 64) - 1


def chosen_clock(text: str) -> str:
    """Name of the clock in brackets in tracefs' ``trace_clock``; ``unknown`` without any."""
    match = _CHOSEN.search(text)
    if match:
        return match[1]
    word = text.strip("\0 \n")
    return word if word and " " not in word else "unknown"


@dataclass(frozen=True)
class GuestSamples:
    """How one virtual CPU's clock stood against the host's, at a few moments.

    Attributes
    ----------
    times
        uint64, guest clock at each sample, ascending.
    offsets
        int64, to be added.
    scalings, fractions
        Multiplier and right shift of the guest's stamp.
    """

    times: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    scalings: NDArray[np.uint64]
    fractions: NDArray[np.uint64]


@dataclass
class Clock:
    """Every correction that a file asks for.

    Attributes
    ----------
    name
        Trace clock.
    mult, shift
        ``TSC2NSEC``: ns = stamp * mult >> shift; mult 0: none.
    offset
        ns to be added (options DATE and OFFSET).
    guest
        Samples per virtual CPU.
    interpolate
        Between samples, rather than the earlier one's offset.
    """

    name: str = "unknown"
    mult: int = 0
    shift: int = 0
    offset: int = 0
    guest: list[GuestSamples] = field(default_factory=list)
    interpolate: bool = False

    @property
    def is_ns(self) -> bool:
        """Stamps are nanoseconds, as recorded or after conversion."""
        return self.mult != 0 or self.name not in layout.RAW_CLOCKS

    @property
    def corrects(self) -> bool:
        """Stamps have to be changed at all."""
        return bool(self.mult or self.offset or self.guest)

    def apply(self, ts: NDArray[np.int64], cpu: int) -> NDArray[np.int64]:
        """Correct the stamps of one CPU.

        Parameters
        ----------
        ts
            As in the ring buffer.
        cpu
            Position of the CPU in the file.

        Returns
        -------
        ndarray of int64
            As `trace-cmd report` shows them.
        """
        out: NDArray[np.uint64] = ts.view(np.uint64)
        with np.errstate(over="ignore"):
            if cpu < len(self.guest):
                out = _to_host(out, self.guest[cpu], interpolate=self.interpolate)
            if self.mult:
                out = scale(out, self.mult, self.shift)
            return (out + np.uint64(self.offset & _MASK64)).view(np.int64)


def scale(ts: NDArray[np.uint64], mult: int, shift: int) -> NDArray[np.uint64]:
    """Multiply by `mult` and shift right, without losing the upper bits.

    The product of a 64-bit stamp and a 32-bit factor has 96 bits
    (include/linux/math64.h: mul_u64_u32_shr).
    """
    low = (ts & np.uint64(0xFFFF_FFFF)) * np.uint64(mult)
    high = (ts >> np.uint64(32)) * np.uint64(mult)
    high = high + (low >> np.uint64(32))
    low = low & np.uint64(0xFFFF_FFFF)
    if shift == 0:
        return (high << np.uint64(32)) | low
    if shift <= 32:
        return (high << np.uint64(32 - shift)) + (low >> np.uint64(shift))
    return high >> np.uint64(min(shift - 32, 63))


def _to_host(
    ts: NDArray[np.uint64], samples: GuestSamples, *, interpolate: bool
) -> NDArray[np.uint64]:
    """Turn a guest's stamps into the host's (``timestamp_host_sync``)."""
    count = len(samples.times)
    if count == 0:
        return ts
    if count == 1:
        return ts + samples.offsets.view(np.uint64)[0]
    # The pair of samples around the stamp; before the first and after the last, the nearest pair.
    first = np.clip(np.searchsorted(samples.times, ts, side="right") - 1, 0, count - 2)
    base, after = samples.offsets[first], samples.offsets[first + 1]
    add = base
    if interpolate:
        start = samples.times[first].view(np.int64)
        span = np.maximum(samples.times[first + 1].view(np.int64) - start, 1)
        gain = (ts.view(np.int64) - start) * (after - base) + span // 2
        # C division rounds towards zero
        add = base + np.sign(gain) * (np.abs(gain) // span)
    scaled = (ts * samples.scalings[first]) >> samples.fractions[first]
    return scaled + add.view(np.uint64)


def read_shift(cursor: Cursor, clock: Clock) -> None:
    """Read option TIME_SHIFT: the samples of a guest's clock against its host's.

    u64 trace id of the host, u32 flags, u32 CPUs, then per CPU u32 samples and as many u64
    times, s64 offsets and u64 scalings; then, from trace-cmd 3.0 on, the fractions per CPU.
    """
    cursor.number(8, "trace id")
    clock.interpolate = bool(cursor.number(4, "flags") & layout.TSYNC_INTERPOLATE)
    read: list[dict[str, Any]] = []
    for _ in range(cursor.count(4, 4, "CPUs of the guest")):
        count = cursor.count(4, 24, "clock samples")
        read.append(
            {
                "times": numbers(cursor, count, 8, "sample times", signed=False),
                "offsets": numbers(cursor, count, 8, "sample offsets", signed=True),
                "scalings": numbers(cursor, count, 8, "sample scalings", signed=False),
            }
        )
    for samples in read:
        count = len(samples["times"])
        has = cursor.left >= 8 * count
        samples["fractions"] = (
            numbers(cursor, count, 8, "sample fractions", signed=False) if has else [0] * count
        )
        clock.guest.append(
            GuestSamples(
                np.array(samples["times"], np.uint64),
                np.array(samples["offsets"], np.int64),
                np.array(samples["scalings"], np.uint64),
                np.minimum(np.array(samples["fractions"], np.uint64), np.uint64(63)),
            )
        )


def read_tsc(cursor: Cursor, clock: Clock) -> None:
    """Read option TSC2NSEC: u32 mult, u32 shift, u64 offset.

    The offset is where the recording machine's clock started; trace-cmd leaves it out of its
    reports, and so does hmtrace.
    """
    clock.mult = cursor.number(4, "TSC multiplier")
    clock.shift = cursor.number(4, "TSC shift")
    cursor.number(8, "TSC offset")


def read_ascii(data: memoryview) -> int:
    """Read an option that is a number in text, as C's strtoll(…, 0) does; 0 where it is none."""
    match = re.match(rb"\s*+([+-]?)(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,19})", bytes(data[:64]))
    if not match:
        return 0
    digits = match[2].decode()
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
    try:
        value = int(digits, base)
    except ValueError:  # 8 or 9 in an octal number
        return 0
    return -value if match[1] == b"-" else value
