"""Text of others, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with a space for everything that moves cursors, breaks lines or cannot be seen.

    >>> printable("gone\\x1b[2J")
    'gone [2J'
    """
    return "".join(char if char.isprintable() else " " for char in text)
