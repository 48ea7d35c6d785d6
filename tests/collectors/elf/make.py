"""Make the ELF files of other architectures and compilers, and what addr2line says of them.

Of GCC's files that of binutils, of clang's LLVM's: binutils 2.40 knows no numbered ranges.

    apt install gcc-arm-linux-gnueabihf gcc-mips-linux-gnu gcc-powerpc-linux-gnu clang lld llvm
    python tests/collectors/elf/make.py

The tests need none of these: they read ``arches.json.xz`` and the files beside it.
"""

from __future__ import annotations

import json
import lzma
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
PLAIN: Final = ("-O2", "-g", "-ffreestanding", "-fno-pic", "-fno-stack-protector")
LINKED: Final = (
    "-fno-asynchronous-unwind-tables", "-nostdlib", "-static", "-Wl,-Ttext=0xc1000000",
    "-Wl,--build-id=sha1", "-Wl,-e,kmap_high",
)  # fmt: skip
LLVM: Final = "llvm-addr2line"
CLANG: Final = ("clang", "-fuse-ld=lld", "-Wno-unused-command-line-argument")
KINDS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "arm-gcc-dwarf5": ("arm-linux-gnueabihf-", ("-marm", "-gdwarf-5")),
    "arm-thumb-gcc-dwarf4": ("arm-linux-gnueabihf-", ("-mthumb", "-gdwarf-4")),
    "mips-gcc-dwarf5": ("mips-linux-gnu-", ("-mno-abicalls", "-G0", "-gdwarf-5")),
    "powerpc-gcc-dwarf4": ("powerpc-linux-gnu-", ("-gdwarf-4",)),
    "powerpc-gcc-dwarf5": ("powerpc-linux-gnu-", ("-gdwarf-5", "-gz=zlib")),
    "i386-clang-dwarf5": ("", (*CLANG, "--target=i386-linux-gnu", "-gdwarf-5")),
    "arm-clang-dwarf5": (
        "arm-linux-gnueabihf-", (*CLANG, "--target=arm-linux-gnueabihf", "-marm", "-gdwarf-5"),
    ),
}  # fmt: skip
"""By name: prefix of the tools, options; a compiler that is not the prefix's comes first."""


def command(prefix: str, options: tuple[str, ...]) -> list[str]:
    """A compiler with its options."""
    if options[0] == "clang":
        return list(options)
    return [f"{prefix}gcc", *options]


def sections(path: Path) -> list[tuple[str, int, int]]:
    """Name, address and size of those that are code."""
    said = subprocess.run(["readelf", "-SW", path], check=True, capture_output=True, text=True)
    pattern = r"\] +(\.\S+) +PROGBITS +(\w+) \w+ (\w+) +\w+ +AX"
    return [(n, int(a, 16), int(s, 16)) for n, a, s in re.findall(pattern, said.stdout)]


def laid_out(linker: str, module: Path) -> Path:
    """A copy of a module whose sections have addresses: else those of all begin with 0."""
    made = module.with_suffix(".linked")
    places = [
        f"--section-start={name}={0xC8000000 + (n << 16):#x}"
        for n, (name, _, _) in enumerate(sections(module))
    ]
    others = [f"--defsym={name}=0xc8ff0000" for name in ("kmap_high", "local_prot")]
    subprocess.run([linker, *others, "-e", "0", *places, module, "-o", made], check=True)
    return made


def answers(tool: str, path: Path, addresses: range) -> list[list[object]]:
    """What addr2line says of each address: function, file and line, the innermost first."""
    asked = [tool, "-f", "-i", "-a", "-e", str(path)]
    said = subprocess.run(
        asked, input="\n".join(map(hex, addresses)), check=True, capture_output=True, text=True
    ).stdout
    found: list[list[object]] = []
    for block in re.split(r"^0x[0-9a-f]{1,16}\n", said, flags=re.MULTILINE)[1:]:
        lines = block.splitlines()
        frames: list[object] = []
        for function, place in zip(lines[::2], lines[1::2], strict=True):
            file, _, line = place.split(" (discriminator")[0].rpartition(":")
            frames.append([function, file, int(line) or None if line.isdigit() else None])
        found.append(frames)
    return found


def returns(tool: str, path: Path, caller: str, called: str) -> list[int]:
    """Where the calls of a function in another one return to, as the CPU has it."""
    asked = [tool, "-d", f"--disassemble={caller}" if tool != "llvm-objdump" else
             f"--disassemble-symbols={caller}", str(path)]  # fmt: skip
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    pattern = rf"^ *(\w+):\s+((?:[0-9a-f]{{2,8}} )+)\s*(?:bl|jal|calll?)\s.*<{called}>"
    found = []
    for at, code in re.findall(pattern, said, re.MULTILINE):
        size = len(code.replace(" ", "")) // 2
        is_thumb, is_mips = "thumb" in path.name, "mips" in path.name
        found.append(int(at, 16) + size * (2 if is_mips else 1) + is_thumb)
    return found


def main() -> None:
    """Make all of them."""
    told: dict[str, object] = {}
    calls: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (prefix, options) in KINDS.items():
            common = [*command(prefix, options), *PLAIN, f"-ffile-prefix-map={HERE}=/build"]
            vmlinux, module = (Path(folder) / f"{kind}-{name}" for kind in ("vmlinux", "hog"))
            sources = [HERE / file for file in ("core.c", "user.c", "sizes.c")]
            subprocess.run([*common, *LINKED, *sources, "-o", vmlinux], check=True, cwd=HERE)
            subprocess.run([*common, "-c", HERE / "user.c", "-o", module], check=True, cwd=HERE)
            is_llvm = "clang" in name
            tool = LLVM if is_llvm else f"{prefix}addr2line"
            linker = "ld.lld" if is_llvm else f"{prefix}ld"
            for made, asked in ((vmlinux, vmlinux), (module, laid_out(linker, module))):
                step = 1 if name.startswith("i386") else 2
                told[made.name] = {
                    section: [start, step, answers(tool, asked, range(start, start + size, step))]
                    for section, start, size in sections(asked)
                }
                packed = lzma.compress(made.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
                (HERE / f"{made.name}.xz").write_bytes(packed)
                sys.stdout.write(f"{made.name}: {len(packed)} bytes\n")
            tool = "llvm-objdump" if is_llvm else f"{prefix}objdump"
            calls[vmlinux.name] = returns(tool, vmlinux, "read_dir", "kmap_high")
    text = json.dumps({"frames": told, "calls": calls}, separators=(",", ":")).encode()
    (HERE / "arches.json.xz").write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    main()
