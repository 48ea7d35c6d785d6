"""Synthetic traces: a simulated kernel, workloads for it, and what really happened.

The simulation is written apart from the model in :mod:`replay`, so each judges the other.
"""
