"""`tapmesh venue welcome`: the office takes devices in, over the local network, each by its own code.

One connection is one joining: ask, place, request, answer (mesh.core.join). Certificates are issued one at a time, and
by the same function as in any enrolment: the register of issued certificates is what says that a code was used.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.core.enrolment import Request, parse_request
from mesh.core.join import (
    Place,
    Standing,
    encode_place,
    encode_refusal,
    find_line,
    holder_of,
    parse_ask,
    refuse_place,
    refuse_request,
    standing,
)
from mesh.core.join_guard import Guard, Verdict
from mesh.errors import LocalError, PeerError
from mesh.limits import (
    ENROLMENT_BYTES_MAX,
    JOIN_ASK_BYTES_MAX,
    JOIN_STEP_S_MAX,
    JOIN_WRONG_CODE_PAUSE_S,
    REQUEST_BYTES_MAX,
)
from mesh.shell.join_discovery import announced
from mesh.shell.join_office import Office, open_office
from mesh.shell.join_stream import ConnectionLost, JoinStream, office_context
from mesh.shell.network import Endpoint
from mesh.shell.output import Output
from mesh.shell.venue import answer_again, enrol

WELCOME_PORT: Final = 7401
_ANSWER_S_MAX: Final = 600.0
"""For an answer of a large event over a poor network."""


class OfficeCloses(LocalError):
    """Too many wrong codes: somebody guesses."""


@dataclass(frozen=True, slots=True)
class WelcomeOptions:
    """How the office is offered to the network."""

    listen: Endpoint
    mdns: bool
    interface: str | None
    until_all_joined: bool


@dataclass(slots=True)
class Welcome:
    """One run of the office."""

    venue: Path
    office: Office
    output: Output
    guard: Guard = field(default_factory=Guard)
    changed: trio.Event = field(default_factory=trio.Event)
    """Somebody joined."""
    _issuing: trio.Lock = field(default_factory=trio.Lock)

    async def serve(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        """One connection, to its end."""
        address: str = stream.transport_stream.socket.getpeername()[0]
        joining = JoinStream(stream)
        try:
            if self.guard.admit(address):
                try:
                    await joining.open()
                    await self._join(joining, address)
                finally:
                    self.guard.leave(address)
        except PeerError as error:
            text = f"a joining from {address} came to nothing: {error}"
            self.output.emit("failed", text, address=address, reason=str(error))
        finally:
            await joining.aclose()

    def waiting(self) -> list[str]:
        """Names whose codes are open."""
        issued = self.office.authority.holders()
        lines = self.office.lines()
        return [line.place.name for line in lines if standing(line, issued, time.time()) is Standing.OPEN]

    async def _join(self, joining: JoinStream, address: str) -> None:
        data = await joining.receive(bytes_max=JOIN_ASK_BYTES_MAX, patience_s=JOIN_STEP_S_MAX)
        place = await self._place(joining, parse_ask(data), address)
        await joining.send(encode_place(place), patience_s=JOIN_STEP_S_MAX)
        data = await joining.receive(bytes_max=REQUEST_BYTES_MAX, patience_s=JOIN_STEP_S_MAX)
        request = parse_request(data)
        try:
            async with self._issuing:
                certificate, answer, first = await self._issue(place, request)
            if len(answer) > ENROLMENT_BYTES_MAX:
                raise LocalError("what a device must hold before doors has grown beyond what one answer may carry")
        except LocalError as error:
            text = f"{place.name!r} at {address} was not taken in: {error}"
            self.output.emit("refused", text, name=place.name, address=address, reason=str(error))
            await joining.send(encode_refusal(str(error)), patience_s=JOIN_STEP_S_MAX)
            return
        await joining.send(answer, patience_s=_ANSWER_S_MAX)
        self._tell_joined(certificate, address, first=first)

    async def _place(self, joining: JoinStream, secret: bytes, address: str) -> Place:
        """The place that this secret gives, or a refusal, at once for the device and slowly for a guesser."""
        line = find_line(self.office.lines(), self.office.authority.root.venue_id, secret)
        # The register is read for good codes only: a guess must cost the office less than it costs the guesser.
        reason = refuse_place(line, [] if line is None else self.office.authority.holders(), time.time())
        if line is not None and reason is None:
            return line.place
        assert reason is not None
        if line is None:
            verdict = self.guard.wrong_code(address)
            text = f"WRONG CODE from {address}, {self.guard.wrong} so far: {verdict.value}"
            self.output.emit("wrong_code", text, address=address, wrong=self.guard.wrong, verdict=verdict.name)
            if verdict is Verdict.CLOSE:
                raise OfficeCloses(
                    f"somebody on this network guesses: {self.guard.wrong} wrong codes. None was right and nobody was "
                    f"let in. Welcome the remaining devices on another network, or enrol them by file"
                )
            await trio.sleep(JOIN_WRONG_CODE_PAUSE_S)
        await joining.send(encode_refusal(reason), patience_s=JOIN_STEP_S_MAX)
        raise ConnectionLost(reason)

    async def _issue(self, place: Place, request: Request) -> tuple[DeviceCertificate, bytes, bool]:
        """Certificate and answer, and whether the certificate was issued now; a `LocalError` says why not."""
        holder = holder_of(place, self.office.authority.holders())
        reason = refuse_request(place, request, holder)
        if reason is None and not self.guard.may_answer(request.log_key):
            reason = f"{place.name!r} asked too often for its answer; start the office again to answer it once more"
        if reason is not None:
            raise LocalError(reason)
        if holder is None:
            return *await enrol(self.venue, request, place.roles), True
        return *await answer_again(self.venue, holder.name), False

    def _tell_joined(self, certificate: DeviceCertificate, address: str, *, first: bool) -> None:
        event = "joined" if first else "answered_again"
        done = "joined" if first else "was answered again"
        left = self.waiting()
        text = f"{certificate.name!r} {done} from {address}, fingerprint {certificate.fingerprint}; {len(left)} to come"
        self.output.emit(
            event,
            text,
            name=certificate.name,
            address=address,
            fingerprint=certificate.fingerprint,
            serial=str(certificate.serial),
            waiting=len(left),
        )
        self.changed.set()


async def run_welcome(venue: Path, options: WelcomeOptions, output: Output) -> None:
    """Take devices in until cancelled, ended by a signal, or until every code was used if that was asked for."""
    office = open_office(venue)
    welcome = Welcome(venue, office, output)
    context = office_context(office.certificate_path, office.key_path)
    listeners = await _listen(options.listen)
    port: int = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:

        async def accept(stream: trio.SocketStream) -> None:
            await welcome.serve(trio.SSLStream(stream, context, server_side=True))

        nursery.start_soon(trio.serve_listeners, accept, listeners)
        nursery.start_soon(_end_on_signal, nursery.cancel_scope)
        if options.mdns:
            nursery.start_soon(_announce, office.welcome, port, options.interface, output)
        waiting = welcome.waiting()
        text = f"READY to take {len(waiting)} devices in, port {port}: {', '.join(waiting) or 'no code is open'}"
        output.emit("ready", text, port=port, waiting=waiting)
        await _until(welcome, all_joined=options.until_all_joined)
        nursery.cancel_scope.cancel()


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


async def _until(welcome: Welcome, *, all_joined: bool) -> None:
    while not all_joined or welcome.waiting():
        await welcome.changed.wait()
        welcome.changed = trio.Event()


async def _announce(welcome: bytes, port: int, interface: str | None, output: Output) -> None:
    async with announced(welcome, port, interface) as problem:
        if problem is not None:
            text = f"this office cannot be found by itself ({problem}): devices join with --at ADDRESS:{port}"
            output.emit("note", text, text=text)
        await trio.sleep_forever()


async def _listen(listen: Endpoint) -> list[trio.SocketListener]:
    try:
        return list(await trio.open_tcp_listeners(listen.port, host=listen.host))
    except OSError as error:
        raise LocalError(
            f"cannot listen on {listen} ({error.strerror}); nobody was taken in. Another office may be open on this "
            f"machine, or choose another address with --listen"
        ) from error
