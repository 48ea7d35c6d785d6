"""Real Debian kernels, booted here under software emulation and recorded (``make test-kernel``).

Way of one run, a module for each step:

``matrix`` (which kernel, how much memory, which workload: ``matrix.toml``) → ``packages`` (kernel
and busybox by apt, for another architecture, without touching the machine's own configuration) →
``modules`` (its files, and which modules a workload needs, in the order of loading) → ``images``
(file systems to mount) → ``initramfs`` (all of it, and ``guest/``, as the guest's first root) →
``machine`` (the emulator, and what came out of it) → ``checks`` (restored, exact, counted like the
kernel) → ``table`` (docs/support-matrix.md).

What needs no guest is tested in the ordinary suite by ``tests/test_kernel_harness.py``.
"""
