"""The model: what 32-bit kernels do to map highmem, and what it costs.

Knows mappings and costs, nothing of files or terminals; of :mod:`collectors` it imports only
the event table's schema.
"""
