"""Names as people type them."""

from __future__ import annotations

from typing import Final

_ARCHES: Final = {
    "i386": ("x86", "x86_32", "x86-32", "i486", "i586", "i686", "ia32"),
    "arm": ("arm32", "armv6", "armv7", "armv7l", "armel", "armhf"),
    "mips32": ("mips", "mipsel"),
    "powerpc32": ("powerpc", "ppc", "ppc32"),
    "sparc32": ("sparc", "leon"),
    "x86_64": ("x86-64", "amd64"),
}
_ALIASES: Final = {alias: name for name, aliases in _ARCHES.items() for alias in aliases}


def arch_name(word: str) -> str:
    """Architecture by the name that kernel, distribution or ``uname -m`` have for it.

    Examples
    --------
    >>> arch_name("x86"), arch_name("armhf"), arch_name("csky")
    ('i386', 'arm', 'csky')
    """
    return _ALIASES.get(word.lower(), word.lower())


def split_name(word: str) -> str:
    """Split as the kernel's configuration and its help text name it.

    Examples
    --------
    >>> [split_name(w) for w in ("2G", "VMSPLIT_3G_OPT", "CONFIG_VMSPLIT_2G", "3G/1G", "2g-opt")]
    ['2g', '3g_opt', '2g', '3g', '2g_opt']
    """
    name = word.lower().removeprefix("config_").removeprefix("vmsplit_")
    return name.partition("/")[0].replace("-", "_")
