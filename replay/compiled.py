"""How the model's loops are compiled: as those that decode, see :mod:`collectors.compiled`."""

from collectors.compiled import loop, part, piece

__all__ = ["loop", "part", "piece"]
