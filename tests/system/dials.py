"""What a switch sees of who dials whom: one JSON line for each TCP connection that is tried on any of its cables.

``tests.system.dials:watch`` runs in the namespace of the switches.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from contextlib import suppress
from typing import Final

ETH_P_ALL: Final = 0x0003
ETH_P_IP: Final = 0x0800
SYN: Final = 0x02
ACK: Final = 0x10
FRAME_BYTES_MAX: Final = 65_536


def watch() -> None:
    """Tell until killed; a frame that several cables carry is told once for each. Any line typed asks: is that all?"""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as cables:
        cables.setblocking(False)
        _say("ready")
        while True:
            asked = sys.stdin in select.select([cables, sys.stdin], [], [])[0]
            with suppress(BlockingIOError):
                while True:
                    _tell(cables.recv(FRAME_BYTES_MAX))
            if asked:
                if not sys.stdin.readline():
                    return
                _say("all")


def _tell(frame: bytes) -> None:
    tried = dial_in(frame)
    if tried is not None:
        _say("dial", source=tried[0], target=tried[1])


def _say(event: str, **fields: str) -> None:
    sys.stdout.write(f"{json.dumps({'event': event, **fields})}\n")
    sys.stdout.flush()


def dial_in(frame: bytes) -> tuple[str, str] | None:
    """From which address to which, if this Ethernet frame is the first of a TCP connection over IPv4 (RFC 9293)."""
    if len(frame) < 14 + 20 or struct.unpack_from("!H", frame, 12) != (ETH_P_IP,):
        return None
    packet = frame[14:]
    header = (packet[0] & 0x0F) * 4
    if packet[9] != socket.IPPROTO_TCP or len(packet) < header + 20:
        return None
    if packet[header + 13] & (SYN | ACK) != SYN:
        return None
    return socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
