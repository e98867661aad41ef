"""The mesh's own commands as processes on this machine alone: what the tests of this folder start and look at.

Everything listens, dials and announces on 127.0.0.1 only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from mesh.core.kinds import Kind, Lane, Role
from mesh.shell.device import open_device
from mesh.testing.venue import Venue, VenueDevice
from mesh.views.tap_entry import AbortBody
from tests.programs import Line, Program, run

LOOPBACK: Final = ("--interface", "127.0.0.1")
NODE: Final = "mesh.cli_node:node"
COURIER: Final = "mesh.courier.cli:courier"
LOG: Final = "mesh.cli_log:log"
APPENDER: Final = "tests.system.appender:appender"


class Enrolled:
    """A device on disk that no program has opened yet."""

    def __init__(self, venue: Venue, directory: Path, name: str, *roles: Role) -> None:
        self.device: VenueDevice = venue.device(name, *roles)
        self.directory = self.device.write_directory(directory / name.replace(" ", "-"))

    def append(self, *entries: tuple[Kind, bytes]) -> None:
        """Sign these entries in its money lane, as a program of the device would; one log, with a genesis."""

        async def work() -> None:
            async with open_device(self.directory) as device:
                for kind, body in entries:
                    await device.append(Lane.MONEY, kind, body)

        trio.run(work)

    def node(self, *options: str, zone: str = "north") -> Program:
        return Program(NODE, "run", "--dir", self.directory, "--zone", zone, "--json", *LOOPBACK, *options)

    def courier(self, *options: str, zone: str = "north") -> Program:
        return Program(COURIER, "run", "--dir", self.directory, "--zone", zone, "--json", *LOOPBACK, *options)

    def appender(self, *options: str, zone: str = "north") -> Program:
        return Program(APPENDER, "--dir", self.directory, "--zone", zone, "--json", *LOOPBACK, *options)

    def logs(self) -> dict[str, list[str]]:
        """Every log that is in its stores, as `tapmesh log` shows it: id to signed bytes, in order."""
        listed = [json.loads(line) for line in _lines("ls", "--dir", str(self.directory), "--json")]
        return {log["log"]: _lines("show", log["log"], "--dir", str(self.directory), "--raw") for log in listed}


def aborts(count: int) -> list[tuple[Kind, bytes]]:
    """Entries that need nothing before them: aborts of taps that never were."""
    return [(Kind.ABORT, AbortBody(index.to_bytes(16, "big"), bytes(32)).encode()) for index in range(count)]


def status(program: Program) -> Line:
    """What the program says about itself now."""
    program.type("status")
    return program.until("status")


def until_held(program: Program, entries: int) -> Line:
    """Wait until a program says that it holds this many entries."""
    while True:
        line = program.until("held")
        if line["entries"] == entries:
            return line


def until_met(program: Program, *peers: str) -> None:
    """Wait until a program has met all of these."""
    missing = set(peers) - {line["peer"] for line in program.seen if line["event"] == "met"}
    while missing:
        missing.discard(program.until("met")["peer"])


def until_in_step(program: Program, peer: str) -> Line:
    """Wait until a program says that it and this peer hold the same."""
    while True:
        line = program.until("in_step")
        if line["peer"] == peer:
            return line


def until_note(program: Program, *words: str) -> str:
    """Wait for a note to people in which these words are."""
    while True:
        text: str = program.until("note")["text"]
        if all(word in text for word in words):
            return text


def stop(programs: Sequence[Program]) -> None:
    """Ask programs to end, as an operator does, and expect that they do so without complaint."""
    for program in programs:
        program.process.terminate()
    assert [program.wait() for program in programs] == [0] * len(programs)


def _lines(*arguments: str) -> list[str]:
    done = run(LOG, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
