"""How the model's loops are compiled."""

from __future__ import annotations

import numba

kernel = numba.njit(  # type: ignore[call-overload]
    cache=True, nogil=True, _nrt=False
)
"""Decorator for functions over arrays that allocate none.

Without numba's reference counting (``_nrt``): passing a named tuple of arrays to a function
would otherwise count each array up and down with atomic instructions, which costs ten times as
much as what the pool's functions do (measured: 5 against 50 million calls a second), and as much
again in compile time. A function that allocates an array is compiled with plain ``numba.njit``.
"""

inlined = numba.njit(  # type: ignore[call-overload]
    cache=True, nogil=True, _nrt=False, forceinline=True
)
"""Decorator for small functions that are called once per event.

numba passes a named tuple of arrays as some forty words, so a call of a function that LLVM does
not inline by itself costs more than its work.
"""
