"""A foreign machine on the network: Avahi, which knows nothing of us, on a message bus of its own."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from mesh.shell.discovery import SERVICE_TYPE
from tests.system.lan import INTERFACE, Host

PROGRAMS: Final = ("dbus-daemon", "avahi-daemon", "avahi-browse", "unshare", "mount")
PATIENCE_S: Final = 60
BUS: Final = """<busconfig>
<type>session</type><listen>unix:path={bus}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/></policy>
<policy context="default"><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
"""
AVAHI: Final = f"""[server]
use-ipv4=yes
use-ipv6=no
allow-interfaces={INTERFACE}
enable-dbus=yes
[wide-area]
enable-wide-area=no
[publish]
disable-publishing=yes
"""
_ESCAPE: Final = re.compile(rb"\\(\d{3}|.)")
# Avahi writes to a folder of the system's: a mount namespace gives it an empty one. With a process namespace the end of
# one process is the end of all, also of the bus, which puts itself into the background once it can be used.
START: Final = """
mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon
dbus-daemon --config-file={directory}/bus.conf --fork --nopidfile
exec avahi-daemon --file={directory}/avahi.conf --no-drop-root --no-chroot --no-rlimits --no-proc-title 2>&1
"""


@dataclass(frozen=True)
class Seen:
    """One service instance as `avahi-browse` resolved it; `texts` are the strings of its TXT record."""

    name: str
    host: str
    address: str
    port: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Browser:
    """`avahi-browse`, as somebody types it who wonders what is on this network."""

    command: tuple[str, ...]

    def look(self) -> dict[str, Seen]:
        """What there is now, by name. A cached instance is shown at once, others within about a second."""
        done = subprocess.run(self.command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        seen: dict[str, Seen] = {}
        for line in done.stdout.splitlines():
            # Semicolons in a name are escaped; in the texts, which are last, they are not.
            match line.split(";", maxsplit=9):
                case ["=", _, "IPv4", name, _, "local", host, address, port, texts]:
                    assert name not in seen, f"{name} is there twice"
                    seen[name] = Seen(name, host, address, int(port), _strings(texts))
                case ["-", _, "IPv4", name, *_]:
                    seen.pop(name, None)
                case ["+", *_]:
                    pass
                case fields:
                    raise AssertionError(f"avahi-browse said {fields}")
        return seen

    def until(self, true: Callable[[dict[str, Seen]], bool]) -> dict[str, Seen]:
        """Look again until it is as wanted; only what never comes is stopped by the bound."""
        bound = time.monotonic() + PATIENCE_S
        while not true(seen := self.look()):
            assert time.monotonic() < bound, seen
        return seen


@contextmanager
def avahi(host: Host, directory: Path) -> Iterator[Browser]:
    """Avahi on this host."""
    directory.mkdir()
    bus = directory / "bus"
    (directory / "bus.conf").write_text(BUS.format(bus=bus), encoding="utf-8")
    (directory / "avahi.conf").write_text(AVAHI, encoding="utf-8")
    apart = (
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--",
        "env",
        f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}",
    )
    with _running([*host.namespace.inside, *apart, "sh", "-euc", START.format(directory=directory)]) as daemon:
        said = ""
        while "Server startup complete" not in said:
            said = daemon.get(timeout=PATIENCE_S)
            assert said, "avahi did not start"
        browse = ("avahi-browse", "--parsable", "--resolve", "--terminate", SERVICE_TYPE.removesuffix(".local."))
        yield Browser((*host.namespace.inside, "env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}", *browse))


@contextmanager
def _running(command: list[str]) -> Iterator[SimpleQueue[str]]:
    """The lines of a process, which is ended with the block; an empty one is its end."""
    lines: SimpleQueue[str] = SimpleQueue()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout

    def read() -> None:
        for line in output:
            lines.put(line)
        lines.put("")

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        yield lines
    finally:
        process.kill()
        process.wait(timeout=PATIENCE_S)
        reading.join()
        output.close()


def _strings(texts: str) -> tuple[str, ...]:
    """Quoted strings, the last one first, with a decimal number for each byte that is not printable ASCII."""
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', texts)
    return tuple(_ESCAPE.sub(_byte, text.encode()).decode() for text in reversed(strings))


def _byte(escape: re.Match[bytes]) -> bytes:
    return bytes([int(escape[1])]) if len(escape[1]) == 3 else escape[1]
