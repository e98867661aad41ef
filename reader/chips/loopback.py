"""nfcpy's `udp:` device, kept on this machine: the one place where its sockets are bound.

nfcpy 1.0.4 binds its listener to 0.0.0.0 and leaves the reader's socket unbound, so that anybody on the network could
play wristband or reader. Both are bound to 127.0.0.1 here. Four more things differ from the original:

* A wristband keeps its socket across activations; the original closes and binds it again, and polls in between are
  lost (docs/adr/0010-nfc-on-loopback.md).
* A reader gives a poll :data:`POLL_S` instead of one second, so that a wristband that has just come is seen at once.
* Any port will do; the original looks its number up in the table of services and fails on those that have a name.
* A wristband that is polled in the middle of an exchange starts over, as one does whose reader lost power.
"""

from __future__ import annotations

import math
import socket
import time
from typing import Any, Final, TypeAlias

import nfc.clf
import nfc.clf.udp

LOOPBACK: Final = "127.0.0.1"
POLL_S: Final = 0.05
"""How long a wristband has to answer a poll."""
SENS_REQ: Final = b"\x26"
WUPA_REQ: Final = b"\x52"

_Frame: TypeAlias = "tuple[str, bytearray, tuple[str, int]]"


class LoopbackReader(nfc.clf.udp.Device):  # type: ignore[misc]  # nfcpy ships no types
    """The reader's side: an unused port of 127.0.0.1, polling the wristband's port."""

    socket: socket.socket | None

    def __init__(self, port: int) -> None:
        self._wait_s_max = math.inf
        _at(self, port)

    def sense_tta(self, target: Any) -> Any:
        self._wait_s_max = POLL_S
        try:
            return super().sense_tta(target)
        except (ValueError, IndexError):
            return None  # whatever answered does not speak nfcpy's frames
        finally:
            self._wait_s_max = math.inf

    def _create_socket(self) -> None:
        fresh = self.socket is None
        super()._create_socket()
        if fresh and self.socket is not None:
            self.socket.bind((LOOPBACK, 0))

    def _recv_data(self, timeout: float, *brty_list: str) -> _Frame:
        frame: _Frame = super()._recv_data(min(timeout, self._wait_s_max), *brty_list)
        return frame


class LoopbackWristband(nfc.clf.udp.Device):  # type: ignore[misc]  # nfcpy ships no types
    """The wristband's side: bound to its port of 127.0.0.1 once, for as long as it lives."""

    socket: socket.socket | None

    def __init__(self, port: int) -> None:
        self._bound = False
        self._activated = False
        self._poll: _Frame | None = None
        _at(self, port)
        self._bind_socket(time.time())

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def mute(self) -> None:
        """A wristband has no field to switch off, and keeps its socket."""
        self._activated = False

    def listen_tta(self, target: Any, timeout: float) -> Any:
        found = super().listen_tta(target, timeout)
        self._activated = found is not None
        return found

    def _bind_socket(self, time_to_return: float) -> bool:
        del time_to_return
        if not self._bound:
            assert self.socket is not None
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            self.socket.bind((LOOPBACK, self.addr[1]))
            self._bound = True
        return True

    def _recv_data(self, timeout: float | None, *brty_list: str) -> _Frame:
        if self._poll is not None and not self._activated:
            frame, self._poll = self._poll, None
            return frame
        try:
            received: _Frame = super()._recv_data(timeout, *brty_list)
        except ValueError as error:
            raise nfc.clf.TransmissionError("not a frame") from error
        if self._activated and bytes(received[1]) in {SENS_REQ, WUPA_REQ}:
            self._poll = received
            raise nfc.clf.BrokenLinkError("polled again")
        return received


def _at(device: Any, port: int) -> None:
    """What nfcpy's own constructor sets, without its lookup of host and port."""
    device.addr = (LOOPBACK, port)
    device._path = f"{LOOPBACK}:{port}"  # noqa: SLF001 - as the base class does
    device.socket = None
    device._create_socket()  # noqa: SLF001 - as the base class does
