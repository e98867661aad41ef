"""Where a key inside a token is found: the part of RFC 7512 (PKCS #11 URIs) that a device needs.

::

    pkcs11:token=LABEL;serial=SERIAL;object=LABEL;id=%01%02?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=...

* `module-path` is required: the token's library, an absolute path. It runs inside this program, so whoever may write
  the URI may do what the device may.
* `token` or `serial` is required: which token; what is given must match.
* `object` and `id` name the key; a device's directory always holds the id.
* `pin-source` is a file (an absolute path or `file:` URI). `pin-value` is refused: a PIN on a command line is seen by
  every user of the machine, and in a file beside the key's address it protects nothing.
* Any other attribute is refused: it might have said that another key is meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from mesh.errors import LocalError
from mesh.limits import TOKEN_URI_CHARS_MAX

SCHEME: Final = "pkcs11:"
_PATH_ATTRIBUTES: Final = frozenset({"token", "serial", "object", "id", "type"})
_QUERY_ATTRIBUTES: Final = frozenset({"module-path", "pin-source", "pin-value"})
_ALLOWED: Final = re.compile(r"[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|&%]*")
_BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


class BadTokenUri(LocalError):
    """The text is not the address of a key in a token; nothing was done."""


@dataclass(frozen=True, slots=True)
class TokenUri:
    """One token, and the key in it once there is one."""

    module: Path
    token: str | None = None
    serial: str | None = None
    label: str | None = None
    """Attribute `object`: what tools show beside the key."""
    id: bytes | None = None
    """CKA_ID, the same on the private and on the public key."""
    pin_source: Path | None = None

    @property
    def named(self) -> str:
        """The token, for people."""
        parts = [] if self.token is None else [f"{self.token!r}"]
        parts += [] if self.serial is None else [f"(serial {self.serial})"]
        return " ".join(["the token", *parts])

    def __str__(self) -> str:
        path = [("token", self.token), ("serial", self.serial), ("object", self.label)]
        fields = [f"{name}={quote(value, safe='')}" for name, value in path if value is not None]
        if self.id is not None:
            fields.append("id=" + "".join(f"%{byte:02X}" for byte in self.id))
        query = [f"module-path={quote(str(self.module))}"]
        if self.pin_source is not None:
            query.append(f"pin-source={quote(str(self.pin_source))}")
        return f"{SCHEME}{';'.join(fields)}?{'&'.join(query)}"


def parse_token_uri(text: str) -> TokenUri:
    """Read a URI, or raise :class:`BadTokenUri` with what is wrong; a PIN in it is not repeated in the error."""
    scheme, colon, rest = text.partition(":")
    if len(text) > TOKEN_URI_CHARS_MAX or f"{scheme.lower()}{colon}" != SCHEME:
        raise BadTokenUri(f"a key in a token is named by a URI like {SCHEME}token=bar?module-path=/usr/lib/softhsm/…")
    path_text, _, query_text = rest.partition("?")
    path = dict(_attributes(path_text, ";", _PATH_ATTRIBUTES))
    query = dict(_attributes(query_text, "&", _QUERY_ATTRIBUTES))
    if "pin-value" in query:
        raise BadTokenUri(
            "a PIN does not belong into a URI (pin-value): other users see it in the list of processes. Put it into a "
            "file of mode 0600 and name that (pin-source=/path), or set TAPMESH_PKCS11_PIN; then change the PIN"
        )
    if "token" not in path and "serial" not in path:
        raise BadTokenUri("the URI names no token: give token=LABEL or serial=SERIAL")
    if "module-path" not in query:
        raise BadTokenUri("the URI names no library: give ?module-path=/path/to/the/library.so")
    if _text(path, "type") not in (None, "private"):
        raise BadTokenUri("the log key is a private key: leave type out, or say type=private")
    module = _file(query, "module-path")
    assert module is not None
    return TokenUri(
        module,
        token=_text(path, "token"),
        serial=_text(path, "serial"),
        label=_text(path, "object"),
        id=path.get("id"),
        pin_source=_file(query, "pin-source"),
    )


def _attributes(text: str, separator: str, known: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    for attribute in filter(None, text.split(separator)):
        name, equals, value = attribute.partition("=")
        if name not in known or not equals:
            raise BadTokenUri(f"the URI's attribute {name!r} is not known here; there are: {', '.join(sorted(known))}")
        if name in seen:
            raise BadTokenUri(f"the URI says {name} twice")
        if not value or not _ALLOWED.fullmatch(value) or _BROKEN_PERCENT.search(value):
            raise BadTokenUri(f"the URI's {name} is empty, or has a character that must be written as %XX")
        seen.add(name)
        yield name, unquote_to_bytes(value)


def _text(attributes: dict[str, bytes], name: str) -> str | None:
    value = attributes.get(name)
    if value is None:
        return None
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadTokenUri(f"the URI's {name} is not UTF-8") from error
    if not text.isprintable():
        raise BadTokenUri(f"the URI's {name} has a character that cannot be shown")
    return text


def _file(attributes: dict[str, bytes], name: str) -> Path | None:
    text = _text(attributes, name)
    if text is None:
        return None
    path = Path(text.removeprefix("file://").removeprefix("file:"))
    if not path.is_absolute():
        raise BadTokenUri(f"the URI's {name} is not the absolute path of a file")
    return path
