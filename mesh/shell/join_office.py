"""The office's side of joining, on disk: its welcome key, and the sheets of codes it gave out.

::

    DIR/authority/welcome.key      PKCS #8 PEM, Ed25519, mode 0600: TLS towards devices that join, nothing else
    DIR/authority/welcome.pem      its certificate, which every code's pin names; lost, all open codes are void
    DIR/authority/sheets/0001.cbor the lines of one list (mesh.core.join), mode 0600; later sheets override earlier ones

A sheet is on the disk, whole, before any of its codes is shown. Codes themselves are written nowhere but where they are
shown: of each the office keeps a digest, and whoever lost the paper makes new codes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from mesh.core.certificate import DeviceCertificate
from mesh.core.device_name import same_device_name
from mesh.core.join import (
    Line,
    Place,
    Standing,
    encode_sheet,
    holder_of,
    newest_lines,
    parse_sheet,
    standing,
)
from mesh.core.join_code import SECRET_BYTES, JoinCode, issue_welcome, secret_digest, welcome_pin, welcome_venue
from mesh.errors import LocalError
from mesh.limits import JOIN_SHEET_BYTES_MAX, JOIN_SHEETS_MAX
from mesh.shell.authority import AUTHORITY_DIRECTORY, Authority, open_authority
from mesh.shell.files import AlreadyThere, CannotRead, read_file, write_new_file
from mesh.shell.keys import create_key_file, load_private_key, read_certificate, write_certificate

WELCOME_KEY_FILE: Final = "welcome.key"
WELCOME_FILE: Final = "welcome.pem"
SHEETS_DIRECTORY: Final = "sheets"


class NoCode(LocalError):
    """There is no open code for that name."""


class TooManySheets(LocalError):
    """More lists than one event may have."""


@dataclass(frozen=True, slots=True)
class Invited:
    """One place of a list: its code if one was made now; else None and what the name's code has become."""

    place: Place
    code: JoinCode | None
    standing: Standing


@dataclass(frozen=True, slots=True)
class Office:
    """An opened office: the authority, and the certificate that devices which join are to meet."""

    authority: Authority
    welcome: bytes

    @property
    def key_path(self) -> Path:
        return self.authority.directory / WELCOME_KEY_FILE

    @property
    def certificate_path(self) -> Path:
        return self.authority.directory / WELCOME_FILE

    def lines(self) -> list[Line]:
        """The line that holds for each name that was ever on a sheet."""
        sheets = (self.authority.directory / SHEETS_DIRECTORY).glob("[0-9]*.cbor")
        return newest_lines(parse_sheet(_read_sheet(path)) for path in sorted(sheets))

    def invite(self, places: Sequence[Place], *, until_s: int | None, now_s: float, anew: bool) -> list[Invited]:
        """Make codes for places that need one. Names that are enrolled are left alone, and so are those with an open
        code unless `anew`: then their old codes are void. The codes are good when this returns."""
        issued = self.authority.holders()
        known = {line.place.name: line for line in self.lines()}
        pin = welcome_pin(self.welcome)
        invited: list[Invited] = []
        lines: list[Line] = []
        for place in places:
            state = _standing(place, known.get(place.name), issued, now_s)
            if state is Standing.JOINED or (state is Standing.OPEN and not anew):
                invited.append(Invited(place, None, state))
                continue
            secret = secrets.token_bytes(SECRET_BYTES)
            lines.append(Line(place, secret_digest(self.authority.root.venue_id, secret), until_s))
            invited.append(Invited(place, JoinCode(pin, secret), Standing.OPEN))
        if lines:
            self._write_sheet(lines)
        return invited

    def withdraw(self, name: str, now_s: float) -> None:
        """Make the open code for a name void, or raise :class:`NoCode`."""
        for line in self.lines():
            if line.place.name == name and standing(line, self.authority.holders(), now_s) is Standing.OPEN:
                self._write_sheet([Line(line.place, None, None)])
                return
        raise NoCode(f"there is no open code for {name!r}; 'tapmesh venue codes' lists them. Nothing was changed")

    def make_void(self, name: str) -> None:
        """Make whatever code was ever given out for this name void, used or not: it must not be good once more."""
        lines = [line for line in self.lines() if same_device_name(line.place.name, name) and line.digest is not None]
        if lines:
            self._write_sheet([Line(line.place, None, None) for line in lines])

    def _write_sheet(self, lines: list[Line]) -> None:
        directory = self.authority.directory / SHEETS_DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        numbers = [int(path.stem) for path in directory.glob("[0-9]*.cbor")]
        number = max(numbers, default=0) + 1
        if number > JOIN_SHEETS_MAX:
            raise TooManySheets(f"{JOIN_SHEETS_MAX} lists of codes were made for this event; no code was made")
        try:
            write_new_file(directory / f"{number:04}.cbor", encode_sheet(lines), private=True)
        except AlreadyThere as error:
            raise LocalError("another command made codes at this moment; none was made here: run it again") from error


def open_office(venue: Path) -> Office:
    """Open the office of an event, making its welcome key at the first time; errors as of `open_authority`."""
    authority = open_authority(venue / AUTHORITY_DIRECTORY)
    directory, venue_id = authority.directory, authority.root.venue_id
    if not (directory / WELCOME_FILE).exists():
        # A crash between the two files leaves a key that no code names yet: it is used now.
        if not (directory / WELCOME_KEY_FILE).exists():
            create_key_file(directory / WELCOME_KEY_FILE)
        made = issue_welcome(
            load_private_key(directory / WELCOME_KEY_FILE), venue_id, serial=x509.random_serial_number()
        )
        write_certificate(directory / WELCOME_FILE, made)
    welcome = read_certificate(directory / WELCOME_FILE, "the certificate that devices meet when they join")
    if welcome_venue(welcome) != venue_id:
        raise CannotRead(f"{directory / WELCOME_FILE} belongs to another event; restore the authority's own files")
    return Office(authority, welcome)


def _standing(place: Place, known: Line | None, issued: list[DeviceCertificate], now_s: float) -> Standing:
    if holder_of(place, issued) is not None:
        return Standing.JOINED
    if known is None or known.place != place:
        # Never invited, or as somebody else: a code for other roles or another zone must not stay good.
        return Standing.WITHDRAWN
    return standing(known, issued, now_s)


def _read_sheet(path: Path) -> bytes:
    return read_file(path, bytes_max=JOIN_SHEET_BYTES_MAX, meaning="a sheet of join codes")
