"""Appends a second, alone and under each attack, side by side in one run; prints JSON. See README.md."""

from __future__ import annotations

import json
import os
import platform
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import Announce, Hello, Want, encode_message
from mesh.limits import ANNOUNCE_LOGS_PER_FRAME_MAX, FRAME_BYTES_MAX, WANTS_IN_FLIGHT_PER_LINK_MAX
from mesh.shell.collector import leave_loaded_alone
from mesh.shell.device import Device, open_device
from mesh.shell.keys import load_identity
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.tls import client_context
from mesh.views.tap_entry import AbortBody
from tests.factory import Venue, VenueDevice

WARM_UP_S: Final = 1.0
MEASURED_S: Final = 1.0
TURNS: Final = 20
TURN_S: Final = 0.4
"""An attack is stopped and let go on again this often: a shared disk does not change its mind that fast."""
LINKS: Final = 16
BODY: Final = AbortBody(bytes(16), bytes(32)).encode()
Stream = trio.SSLStream[trio.SocketStream]


# -- The attacker ------------------------------------------------------------------------------------------------------


class Attacker:
    """Enrolled devices that turned, and one of another event."""

    def __init__(self, port: int, directory: Path) -> None:
        self.port = port
        self.directory = directory
        self.venue = Venue()
        self.hello = encode_message(Hello(self.venue.root.venue_id, "north", bytes(32)))

    def device(self, name: str) -> Path:
        path = self.directory / f"{name}-{secrets.token_hex(4)}"
        venue = Venue("Last year") if name == "stranger" else self.venue
        while len(path.parts) and not path.exists():
            made: VenueDevice = venue.device(f"{name} {secrets.token_hex(4)}", Role.READER)
            made.write_directory(path)
        return path

    async def link(self, device: Path, *, mind: bool = True) -> Stream:
        context = client_context(load_identity(device))
        if not mind:
            context.verify_mode = 0  # type: ignore[assignment]
        return trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", self.port), context)

    async def again_and_again(self, data: bytes, name: str = "mallory") -> None:
        """A link, some bytes, until the victim ends it; the next one."""
        device = self.device(name)
        while True:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
                stream = await self.link(device, mind=name == "mallory")
                with trio.move_on_after(1):
                    await stream.send_all(data)
                    while await stream.receive_some(65_536):
                        pass
                await trio.aclose_forcefully(stream)

    async def slow_loris(self) -> None:
        async def one() -> None:
            stream = await self.link(self.device("mallory"))
            await stream.send_all(self.hello + FRAME_BYTES_MAX.to_bytes(4, "big"))
            while True:
                await stream.send_all(b"\x00")
                await trio.sleep(0.01)

        async with trio.open_nursery() as nursery:
            for _ in range(LINKS):
                nursery.start_soon(one)

    async def half_handshakes(self) -> None:
        waiting: list[trio.SocketStream] = []
        while True:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"\x16\x03\x01\x02\x00\x01")
            waiting.append(stream)
            if len(waiting) > 200:
                await trio.aclose_forcefully(waiting.pop(0))

    async def burn(self) -> None:
        while True:
            secrets.token_bytes(100_000)


def attacks(attacker: Attacker) -> dict[str, Callable[[], Awaitable[None]]]:
    want = encode_message(Want(secrets.token_bytes(16), Position(1, bytes(32)), ()))
    names = [secrets.token_bytes(48) for _ in range(ANNOUNCE_LOGS_PER_FRAME_MAX)]
    made_up = encode_message(Announce(tuple((name[:16], Position(7, name[16:])) for name in names)))
    again = attacker.again_and_again
    return {
        "busy neighbour": attacker.burn,
        "slow loris": attacker.slow_loris,
        "giant frames": partial(again, attacker.hello + b"\xff\xff\xff\xff"),
        "hello again": partial(again, attacker.hello * 2),
        "garbage": partial(again, secrets.token_bytes(4096)),
        "want storm": partial(again, attacker.hello + want * WANTS_IN_FLIGHT_PER_LINK_MAX),
        "made-up logs": partial(again, attacker.hello + made_up * 8),
        "half handshakes": attacker.half_handshakes,
        "wrong venue": partial(again, attacker.hello, "stranger"),
    }


# -- The victim --------------------------------------------------------------------------------------------------------


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


async def appended_in(victim: Device, seconds: float) -> float:
    """How many entries a second the victim signs and has on its disk."""
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        await victim.append(Lane.MONEY, Kind.ABORT, BODY)
        count += 1
    return count / (time.perf_counter() - begun)


async def under(name: str, victim: Device, port: int, directory: Path) -> dict[str, object]:
    """Appends in turns: the attacker's process stopped by a signal, and going on."""
    grown = resident_mib()
    command = [sys.executable, __file__, name, str(port), str(directory)]
    process = await trio.lowlevel.open_process(command, stderr=subprocess.DEVNULL)
    try:
        await trio.sleep(WARM_UP_S)
        begun, cpu = time.perf_counter(), time.process_time()
        await trio.sleep(MEASURED_S)
        spent = (time.process_time() - cpu) / (time.perf_counter() - begun)
        alone, attacked = [], []
        for _ in range(TURNS):
            process.send_signal(signal.SIGSTOP)
            alone.append(await appended_in(victim, TURN_S))
            process.send_signal(signal.SIGCONT)
            attacked.append(await appended_in(victim, TURN_S))
    finally:
        process.kill()
        await process.wait()
    shares = [one / other for one, other in zip(attacked, alone, strict=True)]
    return {
        "appends_per_s_alone": round(statistics.median(alone)),
        "appends_per_s": round(statistics.median(attacked)),
        "of_alone": round(statistics.median(shares), 2),
        "of_alone_quartiles": [round(share, 2) for share in statistics.quantiles(shares, n=4)[::2]],
        "processor_s_per_s": round(spent, 3),
        "grew_mib": round(resident_mib() - grown, 1),
    }


async def measure(directory: Path) -> dict[str, object]:
    home = Venue().device("victim", Role.READER).write_directory(directory / "victim")
    async with open_device(home, zone="north") as victim, trio.open_nursery() as nursery:
        leave_loaded_alone()
        network = Network(victim, Settings(Endpoint("127.0.0.1", 0), mdns=False))
        port = await nursery.start(network.run)
        await appended_in(victim, MEASURED_S)
        found = {name: await under(name, victim, port, directory) for name in attacks(Attacker(0, directory))}
        refused = network.refused
        nursery.cancel_scope.cancel()
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "load_at_the_end": os.getloadavg()[0],
        "turns": TURNS,
        "refused_connections": refused,
        "attacks": found,
    }


def main() -> None:
    if len(sys.argv) > 1:
        name, port, directory = sys.argv[1:]
        trio.run(attacks(Attacker(int(port), Path(directory)))[name])
        return
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(trio.run(measure, Path(directory)), indent=1))


if __name__ == "__main__":
    main()
