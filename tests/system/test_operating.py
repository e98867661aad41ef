"""docs/OPERATING.md, done as it is written: each machine is a network namespace on one switch, its blocks run in order.

A fence's first word says what a block is: `sh MACHINE` commands that end, `sh MACHINE running` one that is left
running, `typed MACHINE` lines for what runs there, `stop MACHINE...` Ctrl-C. What the page cannot have is put in: the
code that was printed for the machine, an emulated wristband, and a directory of the test's own for /var/lib/tapmesh and
/media/stick.
"""

from __future__ import annotations

import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.programs import PATIENCE_S, TREE
from tests.system.test_namespaces import _may_make_namespaces

PAGE: Final = TREE / "docs" / "OPERATING.md"
ADDRESSES: Final = {
    "office": "192.0.2.10",
    "settlement": "192.0.2.20",
    "gate": "192.0.2.21",
    "bar-a": "192.0.2.31",
    "bar-b": "192.0.2.32",
}
NAMES: Final = {"settlement": "Settlement", "gate": "Gate", "bar-a": "Bar A", "bar-b": "Bar B"}
NFC_PORT: Final = 54321
_FENCE: Final = re.compile(
    r"^```(?P<what>sh|typed|stop) (?P<words>[^\n]+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """One block of the page."""

    what: str
    machines: tuple[str, ...]
    running: bool
    text: str


def blocks() -> list[Block]:
    """What the page says to do, in order."""
    found = []
    for match in _FENCE.finditer(PAGE.read_text(encoding="utf-8")):
        *machines, last = match["words"].split()
        running = last == "running"
        found.append(Block(match["what"], tuple(machines if running else [*machines, last]), running, match["text"]))
    return found


class Terminal:
    """One command that was left running: its lines, and a keyboard."""

    def __init__(self, command: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            cwd=cwd,
            env=environment,
        )
        self.seen: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def until(self, *words: str) -> str:
        """The next line with one of these words in it."""
        while True:
            line = self._lines.get(timeout=PATIENCE_S)
            self.seen.append(line)
            assert line, f"ended before it said {words}: {''.join(self.seen)}"
            if any(word in line for word in words):
                return line

    def type(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def interrupt(self) -> int:
        """Ctrl-C, and how it ended."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=PATIENCE_S)
        self._reading.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@dataclass
class Place:
    """Machines on one switch, their directories, and what runs on them."""

    ip: str
    directory: Path
    run_id: str = field(default_factory=lambda: secrets.token_hex(3))
    terminals: dict[str, Terminal] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    """By the name that each is for, as the office printed them."""
    printed: list[str] = field(default_factory=list)

    def namespace(self, machine: str) -> str:
        return f"tapmesh-{self.run_id}-{machine}"

    def do(self, *arguments: str) -> None:
        done = subprocess.run([self.ip, *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"

    def build(self) -> None:
        switch = self.namespace("switch")
        self.do("netns", "add", switch)
        self.do("-n", switch, "link", "add", "switch", "type", "bridge")
        self.do("-n", switch, "link", "set", "switch", "up")
        for number, (machine, address) in enumerate(ADDRESSES.items()):
            there, here = self.namespace(machine), f"port{number}"
            self.do("netns", "add", there)
            self.do(
                "link",
                "add",
                f"tm{self.run_id}{number}",
                "netns",
                there,
                "type",
                "veth",
                "peer",
                "name",
                here,
                "netns",
                switch,
            )
            self.do("-n", switch, "link", "set", here, "master", "switch", "up")
            self.do("-n", there, "address", "add", f"{address}/24", "dev", f"tm{self.run_id}{number}")
            self.do("-n", there, "link", "set", f"tm{self.run_id}{number}", "up")
            self.do("-n", there, "link", "set", "lo", "up")
            (self.directory / machine / "var").mkdir(parents=True)
        (self.directory / "stick").mkdir()

    def remove(self) -> None:
        for terminal in self.terminals.values():
            terminal.close()
        for machine in ("switch", *ADDRESSES):
            subprocess.run([self.ip, "netns", "delete", self.namespace(machine)], check=False, capture_output=True)

    def command(self, machine: str, script: str) -> list[str]:
        return [self.ip, "netns", "exec", self.namespace(machine), "bash", "-euo", "pipefail", "-c", script]

    def environment(self, machine: str) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self.directory}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(TREE),
            "HOME": str(self.directory / machine),
            "TAPMESH_SETTINGS": str(self.directory / machine / "none.toml"),
            "TAPMESH_DEVICE": f"udp:127.0.0.1:{NFC_PORT}",
        }

    def put_in(self, machine: str, text: str) -> str:
        """The page's text with what only this run knows."""
        text = text.replace("/var/lib/tapmesh", str(self.directory / machine / "var"))
        text = text.replace("/media/stick", str(self.directory / "stick"))
        return text.replace("tapmesh join CODE", f"tapmesh join {self.codes.get(NAMES.get(machine, ''), 'CODE')}")

    def carry_out(self, block: Block) -> None:
        match block.what:
            case "sh" if block.running:
                self.start(block.machines[0], block.text)
            case "sh":
                self.run(block.machines[0], block.text)
            case "typed":
                self.type(block.machines[0], block.text.splitlines())
            case "stop":
                ended = [self.terminals[machine].interrupt() for machine in block.machines]
                assert ended == [0] * len(ended), [self.terminals[machine].seen for machine in block.machines]
                for machine in block.machines:
                    self.terminals.pop(machine).close()
            case _:
                raise AssertionError(block.what)

    def run(self, machine: str, text: str) -> None:
        script = self.put_in(machine, text)
        done = subprocess.run(
            self.command(machine, script),
            check=False,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            cwd=self.directory / machine,
            env=self.environment(machine),
        )
        assert done.returncode == 0, f"on {machine}: {script}\n{done.stdout}{done.stderr}"
        self.printed.append(done.stdout)
        found = re.findall(r"^((?:\w{5}-){4}\w{5})  (.+?) \(", done.stdout, re.MULTILINE)
        self.codes.update({name: code for code, name in found})

    def start(self, machine: str, text: str) -> None:
        command = self.command(machine, f"exec {self.put_in(machine, text)}")
        terminal = Terminal(command, self.directory / machine, self.environment(machine))
        self.terminals[machine] = terminal
        terminal.until("READY")

    def type(self, machine: str, lines: list[str]) -> None:
        terminal = self.terminals[machine]
        for line in lines:
            if line == "status":
                terminal.type(line)
                while " 0 to forward" not in terminal.until("to forward"):
                    terminal.type(line)
            else:
                terminal.type(line)
                terminal.until("hold a wristband")
                self.hold_wristband(machine, terminal)

    def hold_wristband(self, machine: str, terminal: Terminal) -> None:
        script = f"exec tapmesh wristband run --port {NFC_PORT} --image band"
        band = Terminal(self.command(machine, script), self.directory / machine, self.environment(machine))
        try:
            assert "GREEN" in terminal.until("GREEN", "RED", "AMBER")
        finally:
            band.close()


@contextmanager
def place(ip: str, directory: Path) -> Iterator[Place]:
    """The machines of the page, removed again whatever happens."""
    made = Place(ip, directory)
    (directory / "bin").mkdir()
    command = directory / "bin" / "tapmesh"
    code = "from mesh.cli import main; main(prog_name='tapmesh')"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.mark.proves("M1", "M6", "S2.6")
def test_night_goes_as_the_page_says_from_unpacking_to_closing(
    tmp_path: Path, require_program: Callable[[str], str], require_system: Callable[[bool, str], None]
) -> None:
    ip = require_program("ip")
    require_system(_may_make_namespaces(ip), "this user may not make network namespaces (root may)")
    with place(ip, tmp_path) as machines:
        for block in blocks():
            machines.carry_out(block)
    printed = "\n".join(machines.printed)
    assert printed.count("\nREADY\n") == 2
    assert "4 codes for 4 devices" in printed
    assert "1 codes for 4 devices" in printed
    assert "CANNOT BE KNOWN" in printed
    assert "2 taps of 1 cards" in printed
    assert "the books balance" in printed
    assert "every signature, role and link holds" in printed


def test_page_has_something_for_every_machine_and_no_block_is_passed_over() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert {machine for block in blocks() for machine in block.machines} == set(ADDRESSES)
    fences = re.findall(r"^```(\S.*)$", page, re.MULTILINE)
    assert len(fences) == len(blocks()), "every block with an info string is carried out"
