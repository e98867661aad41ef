"""Asking a running program where it stands: a Unix socket in its device's directory, a line there, a line back.

Whoever may write to the directory may ask, and nobody else: the socket has mode 0600 from its first moment. A question
is the word `status` and a newline; the answer is one JSON document on one line. Nobody who asks can hold the program
up: questions and clients are bounded, an answer that is not taken is dropped with the client, and questions in a hurry
get the answer of a moment ago (docs/adr/0094-status-socket.md).
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from mesh.errors import LocalError
from mesh.limits import (
    STATUS_ANSWER_BYTES_MAX,
    STATUS_CLIENTS_MAX,
    STATUS_IDLE_S_MAX,
    STATUS_PAUSE_S,
    STATUS_REQUEST_BYTES_MAX,
    STATUS_SEND_S_MAX,
)
from mesh.shell.output import Json

SOCKET_FILE: Final = "status.sock"
_QUESTION: Final = b"status\n"
_MODE: Final = 0o600
_ADDRESS_BYTES_MAX: Final = 107
"""Of a path in a socket's address, its end mark not counted (unix(7))."""
_READ_BYTES: Final = 64 * 1024
_HUNG_UP: Final = "it ended, or as many others are asking as it answers at once"


class NoSocket(LocalError):
    """The socket cannot be there: the program runs and sells without it."""


class NotRunning(LocalError):
    """No program runs with this device."""


class NoAnswer(LocalError):
    """A program has the device open, and does not say where it stands."""


Report = Callable[[], Awaitable[dict[str, Json]]]


# -- The program's side --------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(directory: Path, report: Report) -> AsyncIterator[None]:
    """Answer whoever asks for as long as the block lasts; raises :class:`NoSocket` before it where that cannot be.

    Only for the process that has the device open (mesh.shell.lock): what lies there from before was left behind.
    """
    listener = _listen(directory)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, listener, _Desk(report))
            yield
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        with suppress(OSError):
            (directory / SOCKET_FILE).unlink()


def _listen(directory: Path) -> trio.socket.SocketType:
    path = directory / SOCKET_FILE
    try:
        _clear_away(path)
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            # Before it has a name: so it never is open to others, whatever the umask.
            os.fchmod(plain.fileno(), _MODE)
            with _address(path) as address:
                plain.bind(address)
            plain.listen(STATUS_CLIENTS_MAX)
            return trio.socket.from_stdlib_socket(plain)
        except BaseException:
            plain.close()
            raise
    except OSError as error:
        raise NoSocket(
            f"'tapmesh status' cannot ask this program, because {path} cannot be made: {error.strerror}. "
            f"Everything else works, and no money is affected"
        ) from error


def _clear_away(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(None, "something else is there that is no socket")
    path.unlink()


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """The path, or another that is short enough for a socket's address and leads to the same place."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class _Desk:
    """Gives answers, the same one to those who ask at nearly the same time."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = trio.Lock()
        self._line = b""
        self._good_until = -1.0
        self.clients = 0

    async def line(self) -> bytes:
        async with self._lock:
            if trio.current_time() >= self._good_until:
                document = await self._report()
                self._line = json.dumps(document, ensure_ascii=False).encode("utf-8") + b"\n"
                self._good_until = trio.current_time() + STATUS_PAUSE_S
            return self._line


async def _accept(listener: trio.socket.SocketType, desk: _Desk) -> None:
    async with trio.open_nursery() as nursery:
        while True:
            try:
                client, _ = await listener.accept()
            except OSError:
                # Out of file descriptors, or whoever came has gone: the program itself goes on.
                await trio.sleep(STATUS_PAUSE_S)
                continue
            if desk.clients >= STATUS_CLIENTS_MAX:
                client.close()
                continue
            desk.clients += 1
            nursery.start_soon(_serve, trio.SocketStream(client), desk)


async def _serve(stream: trio.SocketStream, desk: _Desk) -> None:
    try:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                while await _is_asked(stream):
                    line = await desk.line()
                    with trio.move_on_after(STATUS_SEND_S_MAX) as patience:
                        await stream.send_all(line)
                    if patience.cancelled_caught:
                        return
    finally:
        desk.clients -= 1


async def _is_asked(stream: trio.SocketStream) -> bool:
    """Whether the next line is a question; False at the end, for anything else, and after a long silence."""
    said = b""
    with trio.move_on_after(STATUS_IDLE_S_MAX):
        while not said.endswith(b"\n"):
            more = await stream.receive_some(STATUS_REQUEST_BYTES_MAX)
            said += more
            if not more or len(said) > STATUS_REQUEST_BYTES_MAX:
                return False
    return said == _QUESTION


# -- Who asks ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Asking:
    """A connection to a running program."""

    _socket: socket.socket
    _directory: Path

    def ask(self) -> dict[str, Any]:
        """Where it stands now; :class:`NoAnswer` if it ended or is stuck."""
        try:
            self._socket.sendall(_QUESTION)
            line = self._line()
        except TimeoutError as error:
            raise self._no_answer("it took too long") from error
        except OSError as error:
            raise self._no_answer(_HUNG_UP) from error
        try:
            document = json.loads(line)
        except ValueError as error:
            raise self._no_answer("it said what is no status") from error
        if not isinstance(document, dict) or document.get("event") != "status":
            raise self._no_answer("it said what is no status")
        return document

    def _line(self) -> bytes:
        parts, size = [], 0
        while True:
            part = self._socket.recv(_READ_BYTES)
            parts.append(part)
            size += len(part)
            if not part:
                raise self._no_answer(_HUNG_UP)
            if part.endswith(b"\n"):
                return b"".join(parts)
            if size > STATUS_ANSWER_BYTES_MAX:
                raise self._no_answer("it said too much")

    def _no_answer(self, why: str) -> NoAnswer:
        return NoAnswer(
            f"the program that runs with the device in {self._directory} did not say where it stands: {why}. That says "
            f"nothing about its money: what it showed as done is on its disk. Ask again, or look at its own output"
        )


@contextmanager
def asking(directory: Path, patience_s: float) -> Iterator[Asking]:
    """Connect to the program that runs with this device; `NotRunning` or `NoAnswer` where none answers."""
    path = directory / SOCKET_FILE
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as plain:
        plain.settimeout(patience_s)
        try:
            with _address(path) as address:
                plain.connect(address)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunning(f"no program runs with the device in {directory}") from error
        except PermissionError as error:
            raise NoAnswer(
                f"{path} belongs to another user, who alone may ask: nothing was changed, and no money is affected. "
                f"Ask as the user that the program runs as, for example with sudo -u"
            ) from error
        except OSError as error:
            raise NoAnswer(f"{path} cannot be asked: {error.strerror}; nothing was changed") from error
        yield Asking(plain, directory)
