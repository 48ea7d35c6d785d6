"""A board that is none: /proc and a tracefs of plain files, and commands that act on them.

A plain folder cannot behave as tracefs does, so the few commands of the recorder that make it act
are scripts here: ``mkdir`` fills a new trace instance, ``dd`` empties a buffer, ``sleep`` lets the
clock go on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from collectors.probes import FUNCTION_OF
from hmtrace.recorder import recorder_script
from hmtrace.recorder.render import event_of, recorded

if TYPE_CHECKING:
    from pathlib import Path

GROUP: Final = "hmrecord"
PAGE: Final = (8192).to_bytes(8, "little") + (28).to_bytes(4, "little") + bytes(4084)
"""A page of the ring buffer with 28 bytes of nothing."""
HEADER_PAGE: Final = """\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:4;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:12;\tsize:4084;\tsigned:1;
"""
VMALLOCINFO: Final = """\
0xf7800000-0xf7803000   12288 load_module+0x1/0x2 pages=2 vmalloc
0xfefbc000-0xfeffe000  270336 pcpu_get_vm_areas+0x0/0x5 vmalloc
"""
_STATS: Final = """\
entries: 7
overrun: 0
commit overrun: 0
bytes: 400
dropped events: 0
read events: 0
"""
_COMMANDS: Final = {
    "mkdir": """case $1 in
*/instances/*) [ ! -e "$1" ] || exit 1; /bin/cp -r "$HMRECORD_ROOT/instance" "$1" ;;
*) exec /bin/mkdir "$@" ;;
esac""",
    "rmdir": """case $1 in
*/instances/*) exec /bin/rm -r "$1" ;;
*) exec /bin/rmdir "$@" ;;
esac""",
    "dd": """for word; do case $word in if=*) from=${word#if=} ;; esac; done
/bin/cat "$from"
printf 'entries: 0\\nbytes: 0\\nread events: 7\\n' >"${from%/*}/stats\"""",
    "sleep": """read -r up rest <"$HMRECORD_ROOT/proc/uptime"
echo "$((${up%.*} + $1)).00 $rest" 1<>"$HMRECORD_ROOT/proc/uptime\"""",  # never empty
    "uname": """case $1 in
-m) echo i686 ;;
-r) echo 6.1.0-test ;;
*) echo Linux board 6.1.0 i686 ;;
esac""",
    "dmesg": "echo '[    0.000000] Linux version 6.1.0'",
    "mount": "exit 1",
    "umount": "exit 0",
    "df": "echo 'disk 100 10 900000000 1% /'",
}
_PLAIN: Final = {
    name: f"command {name}" for name in ("cat", "grep", "rm", "mv", "tar", "gzip", "date")
}
"""Commands that need not act, but are steps all the same."""
_STEP: Final = """step() {
echo >>"$HMRECORD_ROOT/steps"
read -r step_at <"$HMRECORD_ROOT/stop-at"
steps=0
while read -r _; do steps=$((steps + 1)); done <"$HMRECORD_ROOT/steps"
[ $steps -ne "$step_at" ] || kill -TERM $$
}
"""
"""Steps are lines, as commands of a pipe run at the same time."""


@dataclass
class Board:
    """A made-up board below `root`; on one with `steps`, each command is one that can be counted.

    Counting them costs more than they do.
    """

    root: Path
    steps: bool = False

    def __post_init__(self) -> None:
        """Make the tree."""
        text = {
            "proc/kallsyms": "".join(
                f"c{number:07x} T {name}\n" for number, name in enumerate(["_text", *FUNCTION_OF])
            ),
            "proc/vmallocinfo": VMALLOCINFO,
            "proc/uptime": "100.00 1.00\n",
            "proc/meminfo": "MemFree: 900000 kB\nHighTotal: 1 kB\nLowFree: 400000 kB\n",
            "proc/sys/kernel/kptr_restrict": "0\n",
            "proc/mounts": "",
            "proc/1/status": "Name:\tinit\nPid:\t1\nVmPeak:\t    2000 kB\nVmSize:\t    1000 kB\n",
            **{f"proc/{name}": f"{name}\n" for name in (
                "cmdline", "cpuinfo", "iomem", "modules", "version", "zoneinfo", "buddyinfo",
                "vmstat", "slabinfo", "config.gz")},
            "sys/devices/system/cpu/online": "0-1\n",
            "tmp/.keep": "",
            "run/.keep": "",
            "out/.keep": "",
            "steps": "",
            "stop-at": "-1\n",
        }  # fmt: skip
        events = ["sched/sched_switch", "sched/sched_process_fork", "module/module_load"]
        for function in recorded():
            event = f"{GROUP}/{event_of(function)}"
            events += [event] + [f"{event}_ret"] * bool(function.result)
        top = "sys/kernel/tracing/"
        for tree in (top, "instance/"):
            text |= {
                f"{tree}{name}": content
                for name, content in {
                    "trace": "<stack trace>\n", "tracing_on": "1\n",
                    "trace_clock": "[local] mono\n",
                    "current_tracer": "nop\n", "buffer_size_kb": "7\n", "events/enable": "0\n",
                    "events/header_page": HEADER_PAGE, "events/header_event": "# compressed\n",
                    f"events/{GROUP}/enable": "0\n",
                    "saved_cmdlines_size": "128\n", "saved_cmdlines": "1 init\n",
                }.items()
            }  # fmt: skip
            for number, event in enumerate(events):
                name = event.partition("/")[2]
                text[f"{tree}events/{event}/format"] = (
                    f"name: {name}\nID: {number + 20}\nformat:\n\n"
                )
            for cpu in ("cpu0", "cpu1"):
                text[f"{tree}per_cpu/{cpu}/stats"] = _STATS
                self.put(f"{tree}per_cpu/{cpu}/trace_pipe_raw", PAGE)
        text |= {f"{top}kprobe_events": "", f"{top}kprobe_profile": "", f"{top}instances/.keep": ""}
        for name, content in text.items():
            self.put(name, content)
        for name, body in _COMMANDS.items():
            self.command(name, body)

    def script(self) -> str:
        """The recorder, for this board.

        Busybox's shell takes its own commands before those of PATH, but functions before both.
        """
        acting = {
            path.name: f'"$HMRECORD_ROOT/bin/{path.name}"' for path in (self.root / "bin").iterdir()
        }
        if self.steps:
            acting = {name: f"step; {does}" for name, does in (_PLAIN | acting).items()}
        functions = [f'{name}() {{ {does} "$@"; }}\n' for name, does in acting.items()]
        return _STEP + "".join(functions) + recorder_script()

    @property
    def tracing(self) -> Path:
        """Where its tracefs is."""
        return self.root / "sys/kernel/tracing"

    def put(self, name: str, content: str | bytes) -> None:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def text(self, name: str) -> str:
        """Content of a file."""
        return (self.root / name).read_text()

    def command(self, name: str, body: str) -> None:
        """Give it a command."""
        path = self.root / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def archive(self) -> dict[str, bytes]:
        """Files of the capture, by name."""
        with tarfile.open(self.root / "out/hmrecord.tar.gz") as packed:
            members = [member for member in packed if member.isfile()]
            return {
                member.name.rpartition("/")[2]: packed.extractfile(member).read()  # type: ignore[union-attr]
                for member in members
            }

    def noted(self) -> list[str]:
        """Lines of what the recorder wrote about itself."""
        return self.archive()["recorder"].decode().splitlines()

    def refuse(self, name: str) -> None:
        """Let every write to a file fail."""
        path = self.root / name
        path.unlink()
        path.mkdir()

    def start(self, shell: list[str], *words: str, **options: object) -> subprocess.Popen[bytes]:
        """Start the recorder in the board's folder ``out``."""
        script = self.root / "hmrecord.sh"
        script.write_text(self.script(), encoding="ascii")
        env = {
            "PATH": f"{self.root}/bin:{os.environ['PATH']}",
            "HMRECORD_ROOT": str(self.root),
        }
        return subprocess.Popen(
            [*shell, str(script), *words],
            cwd=self.root / "out",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,  # type: ignore[call-overload]
        )

    def run(self, shell: list[str], *words: str) -> tuple[int, bytes, str]:
        """Run the recorder: status, stdout, stderr."""
        with self.start(shell, *words) as process:
            try:
                out, err = process.communicate(timeout=60)
            finally:
                process.kill()
        return process.returncode, out, err.decode()

    def left(self) -> list[str]:
        """What a recorder left behind of what it changed."""
        found = []
        set_up: set[str] = set()
        for line in self.text("sys/kernel/tracing/kprobe_events").splitlines():
            name = line.split()[0].partition(":")[2]
            if line.startswith("-:"):
                set_up.discard(name)
            else:
                set_up.add(name)
        found += sorted(set_up)
        found += [
            p.name for p in (self.tracing / "instances").iterdir() if p.name.startswith(GROUP)
        ]
        if self.text("proc/sys/kernel/kptr_restrict") != "0\n":
            found.append("kptr_restrict")
        if self.text("sys/kernel/tracing/saved_cmdlines_size") != "128\n":
            found.append("saved_cmdlines_size")
        for folder in ("run", "tmp"):
            found += [p.name for p in (self.root / folder).iterdir() if p.name != ".keep"]
        found += [p.name for p in (self.root / "out").glob("hmrecord.[0-9]*")]
        return found


def shells() -> dict[str, list[str]]:
    """Shells that are installed here, by name."""
    found = {"busybox": ["busybox", "ash"], "bash": ["bash", "--posix"]}
    found |= {name: [name] for name in ("dash", "mksh")}
    found["yash"] = ["yash", "--posixly-correct"]
    return {name: words for name, words in found.items() if shutil.which(words[0])}
