"""Hosts on cables of their own: network namespaces joined by bridges, on a machine that notices nothing of it.

::

    with lan() as place:
        bar = place.host("bar A", "hall")          # a namespace with one interface, plugged into the switch "hall"
        program = bar.program(NODE, "run", ...)    # runs there and has no other network
        place.plug(bar, "yard")                    # its cable is in another switch now
        place.cut(bar)                             # its cable is pulled out

Nothing can be left behind: a namespace has no name and lives as long as a process is in it. The process that holds it
open ends with its standard input, programs are killed by the kernel when whoever started them ends, however that came.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.programs import Program

NEEDED: Final = ("ip", "unshare", "nsenter", "setpriv")
PATIENCE_S: Final = 20
INTERFACE: Final = "eth0"
"""What a host calls its end of the cable."""


class Namespace:
    """A network of its own that is gone when nothing runs in it any more."""

    def __init__(self) -> None:
        unshare = ["unshare", "--net", "--", "sh", "-c", "echo ready; exec cat"]
        self._holder = subprocess.Popen(unshare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            _, complaint = self._holder.communicate(timeout=PATIENCE_S)
            raise PermissionError(complaint.decode().strip())

    @property
    def pid(self) -> int:
        """A process that is in it."""
        return self._holder.pid

    @property
    def inside(self) -> tuple[str, ...]:
        """What to put before a command that is to run in it, and to end when this process ends."""
        return ("nsenter", f"--net=/proc/{self.pid}/ns/net", "setpriv", "--pdeathsig", "KILL")

    def ip(self, *batch: str) -> None:
        """Commands of `ip` without the `ip`, all of them in one process."""
        self._ip("-batch", "-", said="\n".join(batch))

    def interface(self, *what: str) -> dict[str, Any]:
        """What `ip -json WHAT` says about the one interface that it was asked about."""
        (shown,) = json.loads(self._ip("-json", *what))
        assert isinstance(shown, dict)
        return shown

    def _ip(self, *arguments: str, said: str = "") -> str:
        command = [*self.inside, "ip", *arguments]
        done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == 0, f"{arguments} {said}: {done.stderr}"
        return done.stdout

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate(timeout=PATIENCE_S)


@dataclass(frozen=True)
class Host:
    """A machine on the local network."""

    name: str
    number: int
    namespace: Namespace

    @property
    def port(self) -> str:
        """The switch's end of its cable."""
        return f"port{self.number}"

    @property
    def address(self) -> str:
        """As it was given at first."""
        return f"10.88.0.{self.number}"

    def program(self, command: str, *arguments: str | Path) -> Program:
        """One of our commands, running here; killed if this process ends without having done so."""
        return Program("tests.system.inside:enter", *self.namespace.inside, "--", command, *arguments)

    def take_address(self, address: str) -> None:
        """Another address instead of the one it has, as a DHCP server with other ideas gives it."""
        self.namespace.ip(f"address flush dev {INTERFACE}", f"address add {address}/16 dev {INTERFACE}")

    def addresses(self) -> set[str]:
        shown = self.namespace.interface("-4", "address", "show", "dev", INTERFACE)
        return {address["local"] for address in shown["addr_info"]}

    def bytes_moved(self) -> dict[str, int]:
        """Bytes that its interface sent and received since it is there, with all headers."""
        counters = self.namespace.interface("-statistics", "link", "show", "dev", INTERFACE)["stats64"]
        return {"sent": counters["tx"]["bytes"], "received": counters["rx"]["bytes"]}


@dataclass
class Lan:
    """Switches that are not joined to each other, and the hosts plugged into them."""

    core: Namespace
    switches: set[str] = field(default_factory=set)
    hosts: list[Host] = field(default_factory=list)

    def host(self, name: str, switch: str) -> Host:
        """A new machine with an address in 10.88.0.0/16 and no way out of it."""
        made = Host(name, len(self.hosts) + 1, Namespace())
        self.hosts.append(made)
        self.core.ip(f"link add {made.port} type veth peer name {INTERFACE} netns {made.namespace.pid}")
        made.namespace.ip(
            "link set lo up",
            f"address add {made.address}/16 dev {INTERFACE}",
            f"link set {INTERFACE} up",
        )
        self.plug(made, switch)
        return made

    def plug(self, host: Host, switch: str) -> None:
        """Put its cable into this switch, wherever it was before."""
        if switch not in self.switches:
            # Without snooping a switch is a cable with many ends; this one asks nobody who wants to hear multicast.
            self.core.ip(f"link add {switch} type bridge mcast_snooping 0 stp_state 0", f"link set {switch} up")
            self.switches.add(switch)
        self.core.ip(f"link set {host.port} master {switch} up")

    def cut(self, host: Host) -> None:
        """Pull its cable out: no carrier on either end."""
        self.core.ip(f"link set {host.port} down")

    def deafen(self, host: Host) -> None:
        """No multicast reaches it any more; it is heard as before. Some access points do this to sleeping radios."""
        self.core.ip(f"link set {host.port} type bridge_slave mcast_flood off")

    def close(self) -> None:
        for namespace in (*(host.namespace for host in self.hosts), self.core):
            namespace.close()


@contextmanager
def lan() -> Iterator[Lan]:
    """A place for switches and hosts; what runs in it is the caller's to end first."""
    made = Lan(Namespace())
    try:
        yield made
    finally:
        made.close()


def lacking() -> str:
    """What this machine lacks for a local network of namespaces; nothing if it has all."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        return f"this machine has no {' and no '.join(missing)} (.ci/run names the packages)"
    try:
        with lan() as place:
            place.host("probe", "switch")
    except (PermissionError, AssertionError) as error:
        return f"this user may not make network namespaces with bridges (root may): {error}"
    return ""
