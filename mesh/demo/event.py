"""The event that the demo plays at, made with our own commands: its devices, wristbands, prices and zones."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.demo.processes import run

NORTH: Final = "north"
SOUTH: Final = "south"
LOOPBACK: Final = "127.0.0.1"
CURRENCY: Final = "EUR"
PER_TAP_CAP: Final = "50.00"
PRICES_MINOR: Final = (350, 450, 650, 800)
TOP_UPS_MINOR: Final = (3000, 4000, 5000)
CLONE_PRICE_MINOR: Final = (650, 500, 700, 800)
"""What is bought with original and clone; the default seed takes the first."""


@dataclass(frozen=True, slots=True)
class Post:
    """A reader's place: its name, its zone, and the UDP port that stands for its antenna."""

    name: str
    zone: str
    port: int
    directory: Path

    @property
    def antenna(self) -> str:
        return f"udp:{LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True)
class Band:
    """A wristband: its image file, and how much is put on it."""

    name: str
    image: Path
    serial: str
    top_up_minor: int


@dataclass(frozen=True, slots=True)
class Event:
    """Everything there is before doors."""

    directory: Path
    posts: dict[str, Post]
    bands: list[Band]
    courier: Path
    gateway: Path
    settlement: Path
    root: Path
    clone_price_minor: int
    prices_minor: list[int]


def plan_event(directory: Path, seed: int) -> Event:
    """Choose cards, amounts and ports; the same seed gives the same cards and amounts."""
    rng = random.Random(seed)  # a story that can be told again, no secret
    names = {"Till": NORTH, "Bar A": NORTH, "Bar B": NORTH, "Bar C": SOUTH, "Bar D": SOUTH}
    ports = free_udp_ports(len(names))
    posts = {
        name: Post(name, zone, port, directory / name.lower().replace(" ", "-"))
        for (name, zone), port in zip(names.items(), ports, strict=True)
    }
    bands = [
        Band(
            f"wristband {number}", directory / f"band-{number}.json", rng.randbytes(8).hex(), rng.choice(TOP_UPS_MINOR)
        )
        for number in range(1, 5)
    ]
    return Event(
        directory=directory,
        posts=posts,
        bands=bands,
        courier=directory / "courier",
        gateway=directory / "gateway",
        settlement=directory / "settlement",
        root=directory / "venue" / "authority" / "root.pem",
        clone_price_minor=CLONE_PRICE_MINOR[(seed - 1) % len(CLONE_PRICE_MINOR)],
        prices_minor=[rng.choice(PRICES_MINOR) for _ in range(8)],
    )


async def set_up(event: Event) -> None:
    """Make the venue, enrol every device, and give each the others' certificates before doors."""
    venue = str(event.directory / "venue")
    zones = ("--zone", NORTH, "--zone", SOUTH)
    await run(
        "venue", "init", venue, "--name", "Riverside", "--currency", CURRENCY, *zones, "--per-tap-cap", PER_TAP_CAP
    )
    devices = {post.name: (post.directory, ["reader"]) for post in event.posts.values()}
    devices["Till"] = (event.posts["Till"].directory, ["reader", "till"])
    for name, directory in (("Courier", event.courier), ("Gateway", event.gateway), ("Settlement", event.settlement)):
        devices[name] = (directory, [name.lower()])
    for name, (directory, roles) in devices.items():
        chosen = [word for role in roles for word in ("--role", role)]
        await run("venue", "enrol", name, *chosen, "--venue", venue, "--device", str(directory))
    for band in event.bands:
        await run("wristband", "new", str(band.image), "--serial", band.serial)
    starter = str(event.directory / "starter.cbor")
    await run("venue", "starter", "--venue", venue, "--out", starter)
    for directory, _ in devices.values():
        await run("device", "load", starter, "--dir", str(directory))


def free_udp_ports(count: int) -> list[int]:
    """UDP ports of the loopback that nobody uses now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def money(minor: int) -> str:
    """An amount of the demo's currency, for people."""
    return f"{CURRENCY} {minor // 100}.{minor % 100:02}"
