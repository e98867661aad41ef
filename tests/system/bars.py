"""Bars on a local network of namespaces: the real reader, an emulated wristband held to it, orders typed at it."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mesh.core.kinds import Kind
from mesh.shell.looking import look_into
from mesh.views.tap_entry import decode_tap
from tests.programs import Line, Program, run
from tests.system.lan import Host
from tests.system.processes import status

READER: Final = "reader.cli:reader"
WRISTBAND: Final = "reader.cli_wristband:wristband"
VENUE: Final = "mesh.cli_venue:venue"
ZONE: Final = "field"
NFC_PORT: Final = 17_700
"""Of the loopback of each namespace."""

SETTLED_S_MAX: Final = 120.0
ASK_AGAIN_S: Final = 1.0


@dataclass
class Bar:
    """One reader with its device directory; what it acknowledged outlives what is running."""

    host: Host
    directory: Path
    images: Path
    stack: ExitStack
    reader: Program | None = None
    wristband: Program | None = None
    paid: set[str] = field(default_factory=set)
    """Tap ids that went green here."""

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def running(self) -> Program:
        assert self.reader is not None, f"nothing is running at {self.name}"
        return self.reader

    @property
    def own_wristband(self) -> Path:
        return self.images / self.directory.name

    def open(self) -> None:
        """Start the reader: nothing is configured but the enrolment."""
        device = f"udp:127.0.0.1:{NFC_PORT}"
        options = ("--dir", self.directory, "--device", device, "--json", "--until-eof")
        self.reader = self.stack.enter_context(self.host.program(READER, "run", *options))

    def hold(self, image: Path) -> None:
        """Hold a wristband to the reader until it is taken away."""
        self.take_away()
        options = ("--port", str(NFC_PORT), "--image", image, "--json", "--no-waiting")
        self.wristband = self.stack.enter_context(self.host.program(WRISTBAND, "run", *options))
        self.wristband.until("ready")

    def take_away(self) -> None:
        if self.wristband is not None:
            self.wristband.kill()
            self.wristband = None

    def order(self, text: str) -> None:
        self.running.type(text)

    def outcome(self) -> Line:
        """What became of the order; what went green is remembered."""
        line = self.running.until("green", "red")
        if line["event"] == "green":
            self.paid.add(line["tap_id"])
        return line

    def pay(self, text: str) -> Line:
        self.order(text)
        line = self.outcome()
        assert line["event"] == "green", line
        return line

    def kill(self) -> None:
        """`kill -9`."""
        self.running.kill()
        self.reader = None


def make_venue(directory: Path, name: str) -> Path:
    """The office of a venue with one zone."""
    _done(VENUE, "init", directory, "--name", name, "--zone", ZONE, "--per-tap-cap", "50")
    return directory


def enrol(venue: Path, host: Host, directory: Path, stack: ExitStack) -> Bar:
    """A bar whose device may sell and top up."""
    device, images = directory / host.name.replace(" ", "-"), directory / "wristbands"
    images.mkdir(exist_ok=True)
    roles = ("--role", "reader", "--role", "till")
    _done(VENUE, "enrol", host.name, *roles, "--venue", venue, "--device", device)
    return Bar(host, device, images, stack)


def clone(image: Path, copy: Path) -> Path:
    """A second wristband that no reader can tell from the first."""
    _done(WRISTBAND, "clone", image, copy)
    return copy


def open_all(bars: Iterable[Bar]) -> None:
    """Start these at once."""
    opening = list(bars)
    for bar in opening:
        bar.open()
    for bar in opening:
        bar.running.until("ready")


def hold_all(bars: Iterable[Bar]) -> None:
    """Hold its own wristband to each."""
    for bar in bars:
        bar.hold(bar.own_wristband)


@dataclass(frozen=True)
class Ties:
    """The names of those to whom a bar had links, and how many lines it had said by then."""

    bar: Bar
    names: set[str]
    said: int

    def until_parted(self, peers: set[str]) -> None:
        """Wait until it has said since then, of all of these that it had links to, that they are gone."""
        since = self.bar.running.seen[self.said :]
        missing = self.names & peers - {line["peer"] for line in since if line["event"] == "parted"}
        while missing:
            missing.discard(self.bar.running.until("parted")["peer"])


def ties(bar: Bar) -> Ties:
    """To whom it has links now."""
    linked = set(status(bar.running)["links"])
    return Ties(bar, linked, len(bar.running.seen))


def ring(bars: Iterable[Bar], text: str, times: int = 1) -> None:
    """The same order at each of these bars at once, so many times; each is paid."""
    selling = list(bars)
    for _ in range(times):
        for bar in selling:
            bar.order(text)
        for bar in selling:
            line = bar.outcome()
            assert line["event"] == "green", (bar.name, line)


def settle(bars: Sequence[Bar]) -> str:
    """Wait until all hold the same, while nothing is sold; the digest of what they hold.

    What one holds only grows, so while they differ the one that holds least has something to get. Only a mesh that
    hangs is stopped by the bound.
    """
    bound = time.monotonic() + SETTLED_S_MAX
    while True:
        told = [status(bar.running) for bar in bars]
        if len({line["digest"] for line in told}) == 1:
            digest: str = told[0]["digest"]
            return digest
        pairs = list(zip(told, bars, strict=True))
        assert time.monotonic() < bound, {bar.name: (line["entries"], line["links"]) for line, bar in pairs}
        least = min(pairs, key=lambda pair: int(pair[0]["entries"]))[1]
        with suppress(queue.Empty):
            least.running.until_within(ASK_AGAIN_S, "held")


def stop(bars: Iterable[Bar]) -> None:
    """Close the bars as staff do."""
    closing = list(bars)
    for bar in closing:
        bar.take_away()
        bar.order("quit")
    assert [bar.running.wait() for bar in closing] == [0] * len(closing)


def held(bar: Bar) -> dict[str, list[str]]:
    """Every log in its stores, as `tapmesh log show --raw` shows it: id to signed bytes, in order."""
    look = look_into(bar.directory)
    logs = {log.log_id.hex(): [seen.data.hex() for seen in look.entries(log)] for log in look.logs()}
    assert look.problems == []
    return logs


def taps_held(bar: Bar) -> set[str]:
    """The ids of all taps in its stores."""
    look = look_into(bar.directory)
    entries = [seen.entry for log in look.logs() for seen in look.entries(log)]
    assert look.problems == []
    return {decode_tap(e.body).tap_id.hex() for e in entries if e is not None and e.kind == Kind.TAP}


def _done(command: str, *arguments: str | Path) -> None:
    done = run(command, *arguments)
    assert done.returncode == 0, done.stderr
