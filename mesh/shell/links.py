"""One link: an authenticated stream, what waits to be sent on it, and the two tasks that move bytes.

Frames go first, then pieces of logs in the order of their lanes: control before money before telemetry. Pieces are read
from the store only when the stream can take them, so a slow peer costs no memory; frames that pile up past their bound
end the link, and the peer compares again when it is back.
"""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.core.events import Located, Received, Serve
from mesh.core.frontier import Position, Segment
from mesh.core.messages import Plan, RunMessage, encode_message
from mesh.limits import OUTBOX_BYTES_MAX, WANTS_IN_FLIGHT_PER_LINK_MAX
from mesh.ports import Piece, StoredRuns
from mesh.shell.device import Device
from mesh.shell.pieces import joined, segments_after, take_piece

READ_BYTES: Final = 256 * 1024
GATHER_S: Final = 0.25
"""A frame is gathered for at most this long before the node hears of it: on a slow link it must hear that the peer
lives."""
PIECES_PER_READ: Final = 4
"""Pieces of a log that one visit to the store brings: about a megabyte."""
GOODBYE_S: Final = 0.5
"""How long a link that is being closed may take to deliver why; then it is gone, whatever the peer does."""


@dataclass(slots=True)
class _Job:
    """A log, or part of one, that is being sent; `segments` shrink from the front."""

    effect: Serve
    segments: list[Segment]
    blob: bytes
    started: bool = False


@dataclass(slots=True)
class Link:
    """The outgoing side of a link. `number` is what the node knows it by."""

    number: int
    peer: DeviceCertificate
    dialled: bool
    stream: trio.abc.Stream
    scope: trio.CancelScope
    since: float = field(default_factory=trio.current_time)
    """When it was made, on the monotonic clock."""
    _outbox: deque[bytes] = field(default_factory=deque)
    _outbox_bytes: int = 0
    _jobs: list[_Job] = field(default_factory=list)
    _pushes: dict[bytes, _Job] = field(default_factory=dict)
    """By log: what is pushed and has not begun yet, so that what follows joins it."""
    _wake: trio.Event = field(default_factory=trio.Event)
    closing: str | None = None

    def send(self, data: bytes) -> None:
        """Queue a frame; closes the link where the peer takes too little for too long."""
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._outbox_bytes > OUTBOX_BYTES_MAX:
            self.close("the peer is too slow: it will compare again")
            self.scope.cancel()
        self._wake.set()

    def serve(self, effect: Serve) -> None:
        """Queue a log to be sent; what is pushed to a slow peer waits as one job a log."""
        waiting = self._pushes.get(effect.log_id) if effect.pushed else None
        if waiting is not None:
            waiting.segments = joined(waiting.segments, effect.segments)
            waiting.blob = b""
            return
        job = _Job(effect, list(effect.segments), effect.blob)
        self._jobs.append(job)
        if effect.pushed:
            self._pushes[effect.log_id] = job
        if len(self._jobs) > 2 * WANTS_IN_FLIGHT_PER_LINK_MAX:
            self.close("the peer is too slow: it will compare again")
            self.scope.cancel()
        self._wake.set()

    def close(self, reason: str) -> None:
        """End the link once what is in the outbox has been sent, or when a peer that takes nothing had its time."""
        if self.closing is None:
            self.closing = reason
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + GOODBYE_S)
        self._wake.set()

    async def run(self, device: Device) -> None:
        """Move bytes both ways until either side ends the link. Returns why, through `closing`."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, device, nursery.cancel_scope)
            await self._write(device)
            # A stream that broke breaks again; whoever went away needs no goodbye.
            with trio.move_on_after(GOODBYE_S), suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._flush()
            nursery.cancel_scope.cancel()

    async def _read(self, device: Device, scope: trio.CancelScope) -> None:
        while True:
            try:
                data = await self._receive(device.node.wanted_bytes(self.number))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.closing = self.closing or _broken(error)
                break
            if not data:
                self.closing = self.closing or "the peer went away"
                break
            device.post(Received(self.number, data))
            if self.closing is not None:
                # Told to close by what was just received: let the writer say why before the stream goes.
                return
            await device.replica.room()
        scope.cancel()

    async def _receive(self, wanted: int) -> bytes:
        """At least `wanted` bytes; fewer at the end of the stream, or where they do not come fast."""
        first = await self.stream.receive_some(READ_BYTES)
        if not first or len(first) >= wanted:
            return bytes(first)
        parts, size, latest = [bytes(first)], len(first), trio.current_time() + GATHER_S
        while size < wanted and trio.current_time() < latest and (more := await self.stream.receive_some(READ_BYTES)):
            parts.append(bytes(more))
            size += len(more)
        return b"".join(parts)

    async def _write(self, device: Device) -> None:
        try:
            while True:
                await self._flush()
                if self.closing is not None:
                    return
                job = min(self._jobs, key=lambda job: job.effect.lane, default=None)
                if job is not None:
                    await self._advance(device, job)
                elif not self._outbox:
                    self._wake = trio.Event()
                    await self._wake.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.closing = self.closing or _broken(error)

    async def _flush(self) -> None:
        while self._outbox:
            data = b"".join(self._outbox)
            self._outbox.clear()
            self._outbox_bytes = 0
            await self.stream.send_all(data)

    async def _advance(self, device: Device, job: _Job) -> None:
        """Send the next pieces of one job, and take it off the list when nothing is left."""
        log_id = job.effect.log_id
        log_key = device.node.frontier.logs[log_id].genesis.certificate.log_key
        if not job.started:
            job.started = True
            if not job.effect.pushed:
                await self._begin_answer(device, job)
            else:
                del self._pushes[log_id]
                if job.blob:
                    self._jobs.remove(job)
                    count = job.segments[-1].last_seq - job.segments[0].first_seq + 1
                    await self.stream.send_all(encode_message(RunMessage(log_id, count, job.blob)))
                    return
        pieces = await device.read_store(log_id, lambda store: _take_pieces(store, log_id, job.segments, log_key))
        if not job.segments or not pieces:
            self._jobs.remove(job)
        for piece in pieces:
            await self._flush()
            if self.closing is not None:
                return
            await self.stream.send_all(encode_message(RunMessage(log_id, piece.count, piece.blob)))

    async def _begin_answer(self, device: Device, job: _Job) -> None:
        effect = job.effect
        located, size = await device.read_store(effect.log_id, lambda store: _locate(store, job))
        entries = sum(segment.last_seq - segment.first_seq + 1 for segment in job.segments)
        if entries:
            self.send(encode_message(Plan(effect.log_id, entries, size)))
        device.post(Located(self.number, effect.log_id, effect.locator, located))


def _broken(error: trio.BrokenResourceError | trio.ClosedResourceError) -> str:
    cause = error.__cause__
    if isinstance(cause, ssl.SSLEOFError | ConnectionError):
        return "the peer went away"
    return f"the connection broke ({cause or error})"


def _locate(store: StoredRuns, job: _Job) -> tuple[Position | None, int]:
    effect = job.effect
    located = store.locate(effect.log_id, effect.segments, effect.locator)
    if located is not None:
        job.segments = segments_after(job.segments, located.seq)
    return located, store.measure(effect.log_id, job.segments)


def _take_pieces(store: StoredRuns, log_id: bytes, segments: list[Segment], log_key: bytes) -> list[Piece]:
    """Read up to PIECES_PER_READ pieces and cut them off the front of `segments`."""
    pieces: list[Piece] = []
    while segments and len(pieces) < PIECES_PER_READ:
        piece = take_piece(store, log_id, segments, log_key)
        if piece is None:
            segments.clear()
            break
        pieces.append(piece)
        segments[:] = segments_after(segments, piece.next_seq - 1)
    return pieces
