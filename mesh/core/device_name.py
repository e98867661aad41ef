"""What a device may be called: a name that a person can read aloud and that fits a certificate's common name."""

from __future__ import annotations

import unicodedata

from mesh.limits import NAME_BYTES_MAX, NAME_CHARS_MAX


def check_device_name(name: str) -> str | None:
    """Return what is wrong with `name`, or None. Allowed: printable, NFC, no outer spaces, 1 to 64 bytes of UTF-8.

    >>> check_device_name("Bar A")
    >>> check_device_name("")
    "a device's name has 1 to 64 characters"
    """
    if not 1 <= len(name) <= NAME_CHARS_MAX:
        return f"a device's name has 1 to {NAME_CHARS_MAX} characters"
    if not name.isprintable() or name != name.strip() or unicodedata.normalize("NFC", name) != name:
        return "a device's name is printable text (Unicode NFC) without spaces at its ends"
    if len(name.encode("utf-8")) > NAME_BYTES_MAX:
        return (
            f"a device's name has at most {NAME_BYTES_MAX} bytes of UTF-8; letters that are not ASCII have two or more"
        )
    return None


def same_device_name(left: str, right: str) -> bool:
    """True where two names would be confused by a person: equal without case and compatibility forms.

    >>> same_device_name("Bar A", "bar a")
    True
    """
    return _folded(left) == _folded(right)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
