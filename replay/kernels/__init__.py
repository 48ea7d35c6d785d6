"""The model's hot loops: plain functions over arrays, compiled by numba on first use.

Imported lazily (numba costs half a second); each function's ``.py_func``, or the whole module
under ``NUMBA_DISABLE_JIT=1``, is the readable reference that the tests compare with.
"""
