"""The story, act by act. Each act waits for what must happen and fails with :class:`DemoFailed` if it does not.

The script only acts: what it reports in the end is read from the devices' and the service's databases
(:mod:`mesh.demo.figures`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from mesh.demo.event import LOOPBACK, NORTH, SOUTH, Band, Event, Post, money
from mesh.demo.processes import Child, Children, DemoFailed, Said, event, run
from mesh.demo.stage import Stage

READERS: Final = ("Till", "Bar A", "Bar B", "Bar C", "Bar D")
LOCAL: Final = ("--interface", LOOPBACK, "--json", "--until-eof")
SLOW_BLOCK_MS: Final = 400
"""A wristband that programs this slowly gives time to cut the power in the middle of a write."""


@dataclass(slots=True)
class Told:
    """What the acts saw, for the checks at the end."""

    clone_tap_green: bool = False
    third_tap_green: bool = False
    declined_after_proof: bool = False
    contact_at: dict[str, float] = field(default_factory=dict)
    surfaced_at: dict[str, float] = field(default_factory=dict)
    forwarded_before: dict[str, Any] = field(default_factory=dict)
    resent: int = 0
    changed: int = 0


@dataclass(slots=True)
class Play:
    """The running event: its programs and its story so far."""

    event: Event
    stage: Stage
    children: Children
    with_courier: bool
    told: Told = field(default_factory=Told)
    readers: dict[str, Child] = field(default_factory=dict)
    _prices: int = 0

    def price(self) -> int:
        self._prices += 1
        return self.event.prices_minor[self._prices % len(self.event.prices_minor)]

    # -- Act 1 -----------------------------------------------------------------------------------------------------

    async def open_bars(self) -> None:
        """Four bars and a till in two zones find each other; wristbands are topped up; sales go green."""
        self.stage.act("1. Four bars, two zones that cannot see each other, no server")
        async with trio.open_nursery() as nursery:
            for name in READERS:
                nursery.start_soon(self._open, self.event.posts[name])
        for name in READERS:
            others = {post.name for post in self.event.posts.values() if post.zone == self.event.posts[name].zone}
            for other in sorted(others - {name}):
                await self.readers[name].hears(event("met", peer=other), f"it met {other}")
        self.stage.narrate("north: Till, Bar A and Bar B found each other by themselves; south: Bar C and Bar D")
        for band in self.event.bands:
            said = await self.tap("Till", band.image, "topup", band.top_up_minor)
            self.stage.narrate(f"{band.name}: {money(band.top_up_minor)} on it after {said.fields['ms']:.0f} ms")
        for band, bar in zip(self.event.bands[1:], ("Bar B", "Bar C", "Bar D"), strict=True):
            await self.tap(bar, band.image, "sale", self.price())

    async def _open(self, post: Post) -> None:
        child = await self.children.start(
            post.name,
            "reader",
            "run",
            "--dir",
            str(post.directory),
            "--zone",
            post.zone,
            "--device",
            post.antenna,
            *LOCAL,
        )
        self.readers[post.name] = child
        await child.hears(event("ready"), "it is ready")

    # -- Act 2 -----------------------------------------------------------------------------------------------------

    async def clone_spends(self) -> None:
        """One wristband is copied; the original pays at Bar A and the copy at Bar C, in the other zone."""
        self.stage.act("2. A wristband is cloned")
        original, price = self.event.bands[0], self.event.clone_price_minor
        await run("wristband", "clone", str(original.image), str(self.copy))
        await self.tap("Bar A", original.image, "sale", price)
        await self.tap("Bar C", self.copy, "sale", price)
        self.told.clone_tap_green = True
        self.stage.narrate(f"original green at Bar A, copy green at Bar C: nobody could know. At risk {money(price)}")

    @property
    def copy(self) -> Path:
        return self.event.directory / "band-1-copy.json"

    # -- Act 3 -----------------------------------------------------------------------------------------------------

    async def courier_walks(self) -> None:
        """A courier carries the logs from north to south and back; both bars turn red with both signed taps."""
        self.stage.act("3. The courier walks")
        courier = await self.children.start(
            "Courier", "courier", "run", "--dir", str(self.event.courier), "--zone", NORTH, *LOCAL
        )
        await self._in_step(courier, ("Till", "Bar A", "Bar B"), 0)
        self.stage.narrate("the courier has what the north has, and walks south")
        await self._walk(courier, SOUTH, "Bar C", ("Bar C", "Bar D"))
        self.stage.narrate("and back north")
        await self._walk(courier, NORTH, "Bar A", ("Till", "Bar A", "Bar B"))
        at_risk = self.event.clone_price_minor
        self.stage.narrate(f"Bar A and Bar C are red, each with both signed taps: {money(at_risk)} at risk, card held")

    async def _walk(self, courier: Child, zone: str, bar: str, everybody: tuple[str, ...]) -> None:
        heard = {name: len(self.readers[name].heard) for name in everybody}
        mark = await courier.says(f"walk {zone}")
        red = await self.readers[bar].hears(event("conflict"), "a wristband was spent twice", since=heard[bar])
        await self._in_step(courier, everybody, mark)
        # Contact is with the zone: who met the courier first told the others.
        met = [
            await self.readers[name].hears(event("met", peer="Courier"), "it met the courier", since=heard[name])
            for name in everybody
        ]
        self.told.contact_at[bar], self.told.surfaced_at[bar] = min(said.at for said in met), red.at

    async def _in_step(self, courier: Child, readers: tuple[str, ...], since: int) -> None:
        for name in readers:
            await courier.hears(event("in_step", peer=name), f"it is in step with {name}", since=since)

    # -- Act 4 -----------------------------------------------------------------------------------------------------

    async def third_bar(self) -> None:
        """The copy is tried at a third bar: declined if the courier walked, green if not. No gateway runs yet."""
        self.stage.act("4. The copy tries a third bar")
        price = self.event.clone_price_minor
        said = await self._tapped("Bar D", self.copy, "sale", price)
        if said.event == "green":
            self.told.third_tap_green = True
            self.stage.narrate("GREEN: no courier walked, so Bar D could not know. This is what tapmesh is for")
        else:
            self.told.declined_after_proof = said.fields.get("reason") == "held"
            self.stage.narrate(f"DECLINED at Bar D, with no gateway and no network: {said.fields.get('staff')}")

    # -- Act 5 -----------------------------------------------------------------------------------------------------

    async def kill_and_settle(self) -> None:
        """A reader dies in the middle of a tap and comes back; a gateway forwards everything, twice."""
        self.stage.act("5. Power is lost in the middle of a tap; then the gateway comes up")
        await self._power_cut("Bar B", self.event.bands[1], self.price())
        service = await self.children.start(
            "Settlement",
            "settlement",
            "run",
            "--dir",
            str(self.event.settlement),
            "--listen",
            f"{LOOPBACK}:0",
            "--json",
        )
        address = (await service.hears(event("ready"), "it is ready")).fields["address"]
        gateway = await self.children.start(
            "Gateway",
            "gateway",
            "run",
            "--dir",
            str(self.event.gateway),
            "--zone",
            NORTH,
            "--upstream",
            address,
            *LOCAL,
        )
        await self._in_step(gateway, READERS, 0)
        await self._all_forwarded(gateway)
        self.told.forwarded_before = await ledger(self.event)
        self.stage.narrate(f"forwarded {self.told.forwarded_before['entries']} entries; now everything is sent again")
        mark = await gateway.says("resend")
        said = await gateway.hears(event("resent"), "it sent everything again", since=mark)
        self.told.resent, self.told.changed = said.fields["resent"], said.fields["changed"]

    async def _power_cut(self, bar: str, band: Band, price: int) -> None:
        """Kill a reader while a wristband is being written; start it again; hold the same wristband to it."""
        reader = self.readers[bar]
        async with self._presented(bar, band.image, "--block-ms", str(SLOW_BLOCK_MS)) as chip:
            await reader.says(f"sale {price / 100:.2f}")
            await chip.hears(event("programming"), "it is being written")
            await reader.kill()
        self.stage.screen(bar, "killed in the middle of a tap", "red")
        await self._open(self.event.posts[bar])
        said = await self._present_again(bar, band.image)
        self.stage.narrate(f"{bar} was killed in mid-tap and restarted: held again, {said.event}, charged once")

    async def _present_again(self, bar: str, image: Path) -> Said:
        reader = self.readers[bar]
        async with self._presented(bar, image):
            said = await reader.hears(lambda said: said.event in ("green", "red"), "the tap ended")
        if said.event != "green":
            raise DemoFailed(f"{bar} did not finish the tap that was cut off: {said.fields.get('staff')}")
        if said.fields["already"]:
            await reader.says("served")
        return said

    async def _all_forwarded(self, gateway: Child) -> None:
        """Until the service has everything that the gateway holds."""
        with trio.fail_after(60):
            while True:
                mark = await gateway.says("status")
                status = await gateway.hears(event("status"), "how it stands", since=mark)
                if status.fields["remaining"] == 0 and status.fields["reached"]:
                    return
                await trio.sleep(0.2)

    # -- Tapping ---------------------------------------------------------------------------------------------------

    async def tap(self, bar: str, image: Path, order: str, amount_minor: int) -> Said:
        """An order and a wristband; it must go green."""
        said = await self._tapped(bar, image, order, amount_minor)
        if said.event != "green":
            raise DemoFailed(f"{order} of {money(amount_minor)} at {bar} was declined: {said.fields.get('staff')}")
        return said

    async def _tapped(self, bar: str, image: Path, order: str, amount_minor: int) -> Said:
        reader = self.readers[bar]
        async with self._presented(bar, image):
            mark = await reader.says(f"{order} {amount_minor / 100:.2f}")
            return await reader.hears(lambda said: said.event in ("green", "red"), "the tap ended", since=mark)

    @asynccontextmanager
    async def _presented(self, bar: str, image: Path, *options: str) -> AsyncIterator[Child]:
        """A wristband held to a reader for as long as the block lasts."""
        post = self.event.posts[bar]
        chip = await self.children.start(
            image.stem, "wristband", "run", "--port", str(post.port), "--image", str(image), "--json", *options
        )
        await chip.hears(event("ready"), "it is held to the reader")
        try:
            yield chip
        finally:
            with trio.CancelScope(shield=True):
                await chip.stop()
            self.children.running.remove(chip)


async def ledger(event: Event) -> dict[str, Any]:
    """The settlement service's books, from its database."""
    books: dict[str, Any] = json.loads(await run("settlement", "show", "--dir", str(event.settlement), "--json"))
    return books
