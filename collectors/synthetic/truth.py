"""The true outcome: what the simulated kernel did, counted while it did it."""

from __future__ import annotations

import hashlib
from typing import Any

from collectors.records import dataclass, field


@dataclass
class PoolTruth:
    """Of the pool. `flushes` are TLB flushes, `passes` runs of flush_all_zero_pkmaps()."""

    calls: int = 0
    maps: int = 0
    unmaps: int = 0
    hits: int = 0
    new: int = 0
    scanned: int = 0
    max_used: int = 0
    passes: int = 0
    wraps: int = 0
    unused: int = 0
    flushes: int = 0
    freed: int = 0
    waits: int = 0
    wait_ns: int = 0
    waiting: set[int] = field(default_factory=set)
    used_at_end: int = 0


@dataclass
class LocalTruth:
    """Of the local mappings; `lowmem` took no slot."""

    maps: int = 0
    unmaps: int = 0
    lowmem: int = 0
    max_depth: int = 0
    out_of_order: int = 0
    saved_on_switch: int = 0
    mappings_saved: int = 0


@dataclass
class ArenaTruth:
    """Of the vmap arena; sizes in bytes, `peak_lazy` in pages."""

    allocs: int = 0
    failures: int = 0
    frees: int = 0
    purges: int = 0
    hulls: int = 0
    overflows: int = 0
    drains: int = 0
    peak_used: int = 0
    peak_lazy: int = 0
    block_maps: int = 0
    blocks: int = 0


class AddressDigest:
    """Number and digest of the addresses that calls of one kind returned, in that order."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, address: int) -> None:
        """One call returned this; 0 where it failed."""
        self.count += 1
        self._hash.update(address.to_bytes(4, "little"))

    def as_json(self) -> dict[str, Any]:
        """Count, and SHA-256 over the addresses as 4 bytes each, little endian."""
        return {"count": self.count, "sha256": self._hash.hexdigest()}


@dataclass
class Truth:
    """Everything that a replay can be judged by."""

    pool: PoolTruth = field(default_factory=PoolTruth)
    local: LocalTruth = field(default_factory=LocalTruth)
    arena: ArenaTruth = field(default_factory=ArenaTruth)
    addresses: dict[str, AddressDigest] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    flush_ranges: int = 0
    flush_all: int = 0

    def returned(self, op: str, address: int) -> None:
        """A call of this kind gave this address."""
        self.addresses.setdefault(op, AddressDigest()).add(address)

    def as_json(self) -> dict[str, Any]:
        """For the file beside the trace."""
        pool = {**vars(self.pool), "waiting": sorted(self.pool.waiting)}
        return {
            "pool": pool,
            "local": vars(self.local),
            "arena": vars(self.arena),
            "tlb": {"flush_tlb_kernel_range": self.flush_ranges, "flush_tlb_all": self.flush_all},
            "addresses": {op: a.as_json() for op, a in sorted(self.addresses.items())},
            "events": dict(sorted(self.events.items())),
        }
