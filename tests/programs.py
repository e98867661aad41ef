"""Our commands as real processes that speak JSON lines; tests wait for what they say, never for time to pass."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

TREE: Final = Path(__file__).resolve().parents[1]
PATIENCE_S: Final = 60
"""Only a program that hangs is stopped by this; nothing is concluded from how long anything takes."""
Line: TypeAlias = dict[str, Any]


class Program:
    """One command (``"reader.cli:reader"`` and its arguments), from start to the end of the `with` block."""

    def __init__(self, command: str, *arguments: str | Path) -> None:
        module, name = command.split(":")
        # What a shell runs in the background, and all that it starts, would ignore an interrupt.
        heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        code = f"{heed}; from {module} import {name}; {name}()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": str(TREE)},
        )
        self.seen: list[Line] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def until(self, *events: str) -> Line:
        """The next line whose `event` is one of these; fails with all that was said if the program ends first."""
        return self.until_within(PATIENCE_S, *events)

    def until_within(self, seconds: float, *events: str) -> Line:
        """The same for what is promised to come soon: fails with `queue.Empty` once nothing was said for that long."""
        while True:
            text = self._lines.get(timeout=seconds)
            if not text:
                assert self.process.stderr is not None
                raise AssertionError(f"ended before {events}: {self.seen} {self.process.stderr.read()}")
            line: Line = json.loads(text)
            self.seen.append(line)
            if line["event"] in events:
                return line

    def type(self, text: str) -> None:
        """One line on its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def wait(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(timeout=PATIENCE_S)

    def kill(self) -> None:
        """``kill -9``, and everything of it cleared away."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=PATIENCE_S)
        self._reading.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")


def run(command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    module, name = command.split(":")
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import {name}; {name}()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": str(TREE)},
    )


def free_udp_port() -> int:
    """A port of 127.0.0.1 that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
