"""Standard input as lines, for programs that run until told otherwise: cancellable at once, and without a thread."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import Final

import trio

from mesh.limits import COMMAND_BYTES_MAX

STANDARD_INPUT: Final = 0
_READ_BYTES: Final = 4096


async def input_lines(descriptor: int = STANDARD_INPUT) -> AsyncGenerator[str, None]:
    """Yield each line without its end, up to the end of the input. What is longer than its bound is dropped.

    The descriptor is left in blocking mode: it may be a terminal that the shell, and our own output, share with us.
    """
    buffer = b""
    while data := await _read(descriptor):
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield line[:COMMAND_BYTES_MAX].decode("utf-8", "replace").strip()
        buffer = buffer[:COMMAND_BYTES_MAX]
    if buffer:
        yield buffer.decode("utf-8", "replace").strip()


async def _read(descriptor: int) -> bytes:
    """The next bytes; none at the end, and where this process was started without a standard input."""
    try:
        await trio.lowlevel.wait_readable(descriptor)
    except PermissionError:
        # A plain file and /dev/null can always be read, and epoll refuses them for that.
        await trio.lowlevel.checkpoint()
    except OSError:
        return b""
    try:
        return os.read(descriptor, _READ_BYTES)
    except OSError:
        return b""
