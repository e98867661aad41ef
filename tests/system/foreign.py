"""A foreign machine on the network: Avahi, which knows nothing of us, on a message bus of its own."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from mesh.shell.discovery import SERVICE_TYPE
from tests.system.lan import INTERFACE, Host

PROGRAMS: Final = ("dbus-daemon", "avahi-daemon", "avahi-browse", "unshare", "mount")
PATIENCE_S: Final = 60
BUS: Final = """<busconfig>
<type>session</type><listen>unix:path={bus}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow own="*"/></policy>
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
# Avahi writes to a folder of the system's: a mount namespace gives it an empty one. With a process namespace the end of
# one process is the end of all, also of the bus, which puts itself into the background once it can be used.
START: Final = """
mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon
dbus-daemon --config-file={directory}/bus.conf --fork --nopidfile
exec avahi-daemon --file={directory}/avahi.conf --no-drop-root --no-chroot --no-rlimits --no-proc-title 2>&1
"""


@dataclass(frozen=True)
class Seen:
    """One service instance as `avahi-browse` resolved it. `texts` are the strings of its TXT record, as they came."""

    name: str
    host: str
    address: str
    port: int
    texts: tuple[str, ...]


@dataclass
class Browser:
    """`avahi-browse` running; what it says is waited for, however long the network takes."""

    lines: SimpleQueue[str]
    seen: dict[str, Seen] = field(default_factory=dict)

    def until(self, true: Callable[[dict[str, Seen]], bool]) -> dict[str, Seen]:
        """Read on until what is seen is as wanted: instances by name, without those that said goodbye."""
        while not true(self.seen):
            match _fields(self.lines.get(timeout=PATIENCE_S)):
                case ["=", _, "IPv4", name, _, "local", host, address, port, texts]:
                    self.seen[name] = Seen(name, host, address, int(port), tuple(shlex.split(texts)))
                case ["-", _, "IPv4", name, *_]:
                    self.seen.pop(name, None)
                case ["+", *_]:
                    pass
                case fields:
                    raise AssertionError(f"avahi-browse said {fields}")
        return self.seen


@contextmanager
def avahi(host: Host, directory: Path) -> Iterator[Browser]:
    """Avahi on this host, browsing for our service."""
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
        browse = ("avahi-browse", "--parsable", "--resolve", SERVICE_TYPE.removesuffix(".local."))
        with _running([*host.namespace.inside, "env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}", *browse]) as lines:
            yield Browser(lines)


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


def _fields(line: str) -> list[str]:
    """Avahi separates by semicolons and escapes those that are in a name."""
    assert line, "avahi ended"
    return line.rstrip("\n").split(";", maxsplit=9)
