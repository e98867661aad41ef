"""The reader's antenna: find a wristband, activate it, hand out its chip profile. Everything here blocks.

nfcpy drives the hardware. What costs time in it is left out of the tap: `connect()`'s half-second poll and the probes
of `nfc.tag.activate()`. A poll is one `sense()`; activation is one RATS (ISO/IEC 14443-4); the rest is raw exchange.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

import nfc.clf
import nfc.tag
import nfc.tag.tt4

from mesh.errors import LocalError
from reader.chips.iso_dep import IsoDepChip
from reader.chips.loopback import LoopbackReader
from reader.chips.profile import ChipLost, Found

FIELD_OFF_S: Final = 0.02
"""Without a field for this long a chip forgets its activation; waited for between taps, never in one."""
RATS_TIMEOUT_S: Final = 0.1
COMMAND_S_MAX: Final = 10.0
"""One command, waiting-time extensions included: a chip that asks for more time for ever would hold the reader."""
RETRIES_MAX: Final = 1
"""How often a lost block is asked for again before the wristband counts as pulled away."""
FRAME_SIZES: Final = (16, 24, 32, 40, 48, 64, 96, 128, 256)
"""ISO/IEC 14443-4, table of FSCI."""
CARRIER_HZ: Final = 13.56e6
ISO_DEP_BIT: Final = 0x20
UDP_PORT_DEFAULT: Final = 54321
_UDP: Final = re.compile(r"udp(?::(?P<host>[^:]+))?(?::(?P<port>[0-9]{1,5}))?")


class NoReaderDevice(LocalError):
    """No NFC device there, or not one we may use."""


class Radio:
    """Implements :class:`reader.chips.profile.Antenna` over nfcpy."""

    def __init__(self, frontend: Any) -> None:
        self._frontend = frontend
        self._field_used = False

    def poll(self) -> Found | None:
        """Look for an ISO-DEP wristband once; the field is off for a moment first, if it was in use."""
        try:
            if self._field_used:
                self._frontend.device.mute()
                time.sleep(FIELD_OFF_S)
                self._field_used = False
            began_us = time.monotonic_ns() // 1000
            target = self._frontend.sense(nfc.clf.RemoteTarget("106A"))
        except nfc.clf.CommunicationError:
            return None
        except (OSError, AttributeError) as error:
            raise NoReaderDevice(_gone(error)) from error
        if target is None or not target.sel_res or not target.sel_res[0] & ISO_DEP_BIT:
            return None
        self._field_used = True
        return Found(bytes(target.sdd_res), target, began_us)

    def activate(self, found: Found) -> IsoDepChip:
        """Open ISO-DEP on the chip of the last poll, or raise :class:`ChipLost`."""
        try:
            # 0x80: frames of up to 256 bytes are fine with us (FSDI 8), card number 0.
            answer = self._frontend.exchange(bytearray(b"\xe0\x80"), timeout=RATS_TIMEOUT_S)
        except nfc.clf.CommunicationError as error:
            raise ChipLost("the wristband was pulled away") from error
        except OSError as error:
            raise NoReaderDevice(_gone(error)) from error
        frame_bytes, wait_s = _parameters(bytes(answer or b""))
        patience = _Patience(self._frontend)
        link = nfc.tag.tt4.IsoDepInitiator(patience, min(frame_bytes, self._frontend.max_send_data_size), wait_s)
        link.n_retry_ack = link.n_retry_nak = RETRIES_MAX

        def transceive(command: bytes) -> bytes:
            patience.begin()
            return _transceive(link, command)

        return IsoDepChip(found.uid, transceive)

    def close(self) -> None:
        """Switch the field off and let the device go; waits for an exchange under way, which has a time limit."""
        self._frontend.close()


class _Patience:
    """What nfcpy's ISO-DEP link exchanges through: a frontend that ends a command after :data:`COMMAND_S_MAX`."""

    def __init__(self, frontend: Any) -> None:
        self._frontend = frontend
        self._until_s = 0.0

    def begin(self) -> None:
        self._until_s = time.monotonic() + COMMAND_S_MAX

    def exchange(self, data: bytearray, timeout: float) -> Any:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise nfc.clf.TimeoutError("the chip asks for time for ever")
        return self._frontend.exchange(data, min(timeout, left_s))


def open_radio(path: str) -> Radio:
    """Open a device by nfcpy's path (``usb``, ``tty:USB0:pn532``) or ``udp:127.0.0.1:PORT``.

    Raises :class:`NoReaderDevice`. Emulated wristbands are on this machine only, whatever the path says.
    """
    frontend = nfc.clf.ContactlessFrontend()
    if path.split(":", maxsplit=1)[0] == "udp":
        frontend.device = LoopbackReader(_udp_port(path))
        return Radio(frontend)
    try:
        found = frontend.open(path)
    except (OSError, ValueError) as error:
        raise NoReaderDevice(_none(path, str(error))) from error
    if not found:
        raise NoReaderDevice(_none(path, "nothing found"))
    return Radio(frontend)


def _udp_port(path: str) -> int:
    match = _UDP.fullmatch(path)
    port = int(match["port"] or UDP_PORT_DEFAULT) if match else 0
    if match is None or match["host"] not in {None, "127.0.0.1", "localhost"} or not 0 < port < 65536:
        raise NoReaderDevice(f"'{path}' is not a device: emulated wristbands are at udp:127.0.0.1:PORT")
    return port


def _parameters(answer: bytes) -> tuple[int, float]:
    """Frame size in bytes and frame waiting time in seconds, from an answer to select (ISO/IEC 14443-4, 5.2)."""
    size, waiting = 2, 4  # what the standard says of a chip that does not say
    if len(answer) > 1:
        interface = iter(answer[2:])
        size = min(answer[1] & 0x0F, 8)
        if answer[1] & 0x10:
            next(interface, None)
        if answer[1] & 0x20:
            waiting = min(next(interface, 0x40) >> 4, 14)
    return FRAME_SIZES[size], 4096 / CARRIER_HZ * 2**waiting


def _transceive(link: Any, command: bytes) -> bytes:
    try:
        return bytes(link.exchange(bytearray(command)))
    except (nfc.tag.TagCommandError, nfc.clf.CommunicationError) as error:
        raise ChipLost("the wristband was pulled away") from error
    except OSError as error:
        raise NoReaderDevice(_gone(error)) from error


def _none(path: str, reason: str) -> str:
    return (
        f"no NFC reader at '{path}' ({reason}): plug it in, check that this user may open it, or name another with "
        "--device. Nothing was charged."
    )


def _gone(error: Exception) -> str:
    return f"the NFC reader no longer answers ({error}): plug it in again and start anew; an open tap is resolved then"
