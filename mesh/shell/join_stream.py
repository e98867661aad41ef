"""What both ends of a joining share: TLS with the office's certificate only, and framed messages with deadlines.

TLS 1.3, one certificate, the office's; the device has none yet. The device checks it against its code's pin before it
says anything; TLS proves that whoever shows it holds its key. No session is ever resumed.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import trio

from mesh.errors import LocalError, PeerError
from mesh.limits import HANDSHAKE_S_MAX, KEY_FILE_BYTES_MAX
from mesh.shell.files import read_private_file

APPLICATION_PROTOCOL: Final = "tapmesh-join/1"
_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 64 * 1024


class ConnectionLost(PeerError):
    """The connection ended or stalled in the middle of a joining; the same command goes on from there."""


class JoinStream:
    """One connection of a joining. Any failure of it is a :class:`ConnectionLost`."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def open(self) -> None:
        """Carry the TLS handshake out."""
        try:
            with trio.fail_after(HANDSHAKE_S_MAX):
                await self._stream.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise ConnectionLost("no TLS came about with whoever answered") from error
        if self._stream.selected_alpn_protocol() != APPLICATION_PROTOCOL:
            raise ConnectionLost("whoever answered there is not an office that takes devices in")

    @property
    def certificate(self) -> bytes:
        """The other end's certificate, DER; empty where it showed none."""
        return self._stream.getpeercert(binary_form=True) or b""

    async def send(self, message: bytes, *, patience_s: float) -> None:
        """Send one message."""
        try:
            with trio.fail_after(patience_s):
                await self._stream.send_all(len(message).to_bytes(_LENGTH_BYTES, "big") + message)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise ConnectionLost("the connection was lost") from error

    async def receive(self, *, bytes_max: int, patience_s: float) -> bytes:
        """Receive one message of at most `bytes_max` bytes; `patience_s` is for each piece of it."""
        length = int.from_bytes(await self._exactly(_LENGTH_BYTES, patience_s), "big")
        if not 0 < length <= bytes_max:
            raise ConnectionLost(f"a message of {length} bytes where at most {bytes_max} are allowed")
        return await self._exactly(length, patience_s)

    async def aclose(self) -> None:
        """Close without waiting for the other end."""
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def _exactly(self, count: int, patience_s: float) -> bytes:
        data = bytearray()
        try:
            while len(data) < count:
                with trio.fail_after(patience_s):
                    piece = await self._stream.receive_some(min(_READ_BYTES, count - len(data)))
                if not piece:
                    raise ConnectionLost("the connection ended before all was said")
                data += piece
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            raise ConnectionLost("the connection was lost") from error
        return bytes(data)


def office_context(certificate_path: Path, key_path: Path) -> ssl.SSLContext:
    """TLS for the office."""
    read_private_file(key_path, bytes_max=KEY_FILE_BYTES_MAX, meaning="the key that devices meet when they join")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate_path, key_path)
    except (ssl.SSLError, OSError) as error:
        raise LocalError(f"{certificate_path} and {key_path} do not belong together ({error}): restore them") from error
    return _configured(context)


def device_context() -> ssl.SSLContext:
    """TLS for a device that joins: no authority to ask, so the caller compares the certificate with its code's pin."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return _configured(context)


def _configured(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([APPLICATION_PROTOCOL])
    return context
