"""Our own commands as child processes that speak JSON lines: started, listened to, spoken to, and always stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from mesh.errors import TapmeshError

WAIT_S_MAX: Final = 30.0
"""Longer than anything here takes, also on a busy machine; a demo that waits this long has failed."""
STOP_S_MAX: Final = 10.0
_LINE_BYTES_MAX: Final = 1024 * 1024


class DemoFailed(TapmeshError):
    """Something that the demo promises did not happen."""


@dataclass(frozen=True, slots=True)
class Said:
    """One JSON line of a program, and when it was heard (seconds, monotonic)."""

    at: float
    fields: dict[str, Any]

    @property
    def event(self) -> str:
        return str(self.fields.get("event", ""))


Wanted = Callable[[Said], bool]


def event(name: str, **fields: object) -> Wanted:
    """What to wait for: an event of this name with these fields."""
    return lambda said: said.event == name and all(said.fields.get(key) == value for key, value in fields.items())


@dataclass(slots=True)
class Child:
    """A running command of ours. `heard` keeps everything it said, in order."""

    name: str
    process: trio.Process
    listener: Callable[[Child, Said], None]
    heard: list[Said] = field(default_factory=list)
    errors: bytearray = field(default_factory=bytearray)
    _changed: trio.Event = field(default_factory=trio.Event)
    _ended: bool = False

    async def listen(self) -> None:
        """Take in what the program says until it ends."""
        assert self.process.stdout is not None and self.process.stderr is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_errors, self.process.stderr)
            rest = b""
            async for data in self.process.stdout:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._take(line)
                if len(rest) > _LINE_BYTES_MAX:
                    raise DemoFailed(f"{self.name} says a line without end")
        self._ended = True
        self._wake()

    async def _keep_errors(self, stream: trio.abc.ReceiveStream) -> None:
        async for data in stream:
            self.errors += data

    def _take(self, line: bytes) -> None:
        try:
            fields = json.loads(line)
        except ValueError:
            fields = {"event": "text", "text": line.decode("utf-8", "replace")}
        said = Said(trio.current_time(), fields)
        self.heard.append(said)
        self.listener(self, said)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def hears(self, wanted: Wanted, what: str, *, since: int = 0) -> Said:
        """The first wanted thing said from number `since` on, now or later; :class:`DemoFailed` if it never comes."""
        with trio.move_on_after(WAIT_S_MAX):
            while True:
                found = next((said for said in self.heard[since:] if wanted(said)), None)
                if found is not None:
                    return found
                if self._ended:
                    break
                await self._changed.wait()
        complaint = self.errors.decode("utf-8", "replace").strip()
        raise DemoFailed(f"{self.name} never said that {what}" + (f"; it complained: {complaint}" if complaint else ""))

    async def says(self, line: str) -> int:
        """Type a line at the program; returns how much it had said by then."""
        assert self.process.stdin is not None
        mark = len(self.heard)
        await self.process.stdin.send_all(line.encode() + b"\n")
        return mark

    async def stop(self) -> None:
        """Ask it to end, and wait."""
        if self.process.returncode is None:
            self.process.terminate()
            with trio.move_on_after(STOP_S_MAX):
                await self.process.wait()
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()

    async def kill(self) -> None:
        """As a power cut would: no goodbye, nothing flushed."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@dataclass(slots=True)
class Children:
    """Every process of one demo; `stop_all` leaves none behind."""

    nursery: trio.Nursery
    listener: Callable[[Child, Said], None]
    running: list[Child] = field(default_factory=list)
    history: list[Said] = field(default_factory=list)
    """Everything that any of them said."""

    def _hear(self, child: Child, said: Said) -> None:
        self.history.append(said)
        self.listener(child, said)

    async def start(self, name: str, *arguments: str) -> Child:
        """Start one of our commands; `name` is what the demo calls it."""
        process = await trio.lowlevel.open_process(
            command_line(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        child = Child(name, process, self._hear)
        self.running.append(child)
        self.nursery.start_soon(child.listen)
        return child

    async def stop_all(self) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for child in self.running:
                    nursery.start_soon(child.stop)
        self.running.clear()


def command_line(*arguments: str) -> list[str]:
    """Our command by the interpreter that runs this, wherever it is installed."""
    return [sys.executable, "-m", "mesh", *arguments]


async def run(*arguments: str) -> str:
    """Run one of our commands to its end; its output, or :class:`DemoFailed` with what it complained."""
    done = await trio.run_process(
        command_line(*arguments), capture_stdout=True, capture_stderr=True, check=False, env=dict(os.environ)
    )
    if done.returncode != 0:
        complaint = done.stderr.decode("utf-8", "replace").strip()
        raise DemoFailed(f"'tapmesh {' '.join(arguments[:2])}' failed: {complaint}")
    return done.stdout.decode("utf-8", "replace")
