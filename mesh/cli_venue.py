"""`tapmesh venue`: what is done in the venue's office, where the authority's key is: make an event, enrol devices."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from mesh.cli_device import DIRECTORY, FILE, describe
from mesh.cli_join import codes, enrol_from, root, welcome
from mesh.cli_output import errors_shown, say
from mesh.cli_trust import retire_command, revoke_command, rotate_command
from mesh.core.currency import currency_of
from mesh.core.enrolment import make_starter
from mesh.core.kinds import Role
from mesh.errors import LocalError
from mesh.shell.authority import AUTHORITY_DIRECTORY, open_authority
from mesh.shell.enrolment import REQUEST_FILE, make_device, read_request, require_no_certificate
from mesh.shell.files import require_absent, write_new_file
from mesh.shell.revoke import registered
from mesh.shell.venue import accept_answer, answer_again, create_venue, edit_document, enrol, starter
from mesh.views.automerge_document import DocumentFields, Edit
from mesh.views.venue_document import VenueDocument

_VENUE = click.option("--venue", type=DIRECTORY, required=True, help="The directory that 'venue init' made.")
_OUT = click.option("--out", type=FILE, required=True, help="New file to write.")
_ZONES = click.option("--zone", "zones", multiple=True, required=True, help="A bar area; give it once for each.")
_ROLES = click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([role.value for role in Role]),
    help="What the device may do; can be given several times.",
)


class UnclearEnrolment(LocalError):
    """The options of an enrolment do not fit together."""


@click.group()
def venue() -> None:
    """Make an event, enrol its devices, edit what all of them read."""


venue.add_command(welcome)
venue.add_command(codes)
venue.add_command(root)
venue.add_command(revoke_command)
venue.add_command(retire_command)
venue.add_command(rotate_command)


@venue.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--name", required=True, help="The event's name.")
@click.option("--currency", default="EUR", show_default=True, help="ISO 4217 code.")
@_ZONES
@click.option("--per-tap-cap", "cap", required=True, help="Most that one tap may take, for example 50 or 49.50.")
@click.option("--manager", default="manager", show_default=True, help="Name of the first manager's device.")
def init(directory: Path, name: str, currency: str, zones: tuple[str, ...], cap: str, manager: str) -> None:
    """Make an event in the new DIRECTORY: its authority, its first manager, its first venue document.

    Keep DIRECTORY/authority off the mesh and on two disks: without its key no device can be enrolled or revoked, and
    whoever has it can enrol devices of their own.
    """
    with errors_shown():
        money = currency_of(currency)
        fields = DocumentFields(name, money.code, money.exponent, zones, money.parse(cap), b"", b"")
        root = trio.run(create_venue, directory, manager, fields)
    say(f"{name!r} is ready in {directory}. Venue fingerprint {root.fingerprint}")
    say(f"At most {money.format(money.parse(cap))} a tap; zones: {', '.join(sorted(set(zones)))}.")
    say(f"Next: tapmesh venue enrol 'Bar A' --role reader --venue {directory} --device ./bar-a")


@venue.command("enrol")
@click.argument("name", required=False)
@_ROLES
@_VENUE
@click.option("--request", type=FILE, help="The request that the device made ('tapmesh device request').")
@click.option("--out", type=FILE, help="New file for the answer, which the device accepts.")
@click.option("--device", "directory", type=DIRECTORY, help="All three steps at once, for a device on this machine.")
@click.option("--from", "source", type=FILE, help="CSV with the columns name, roles and zone: a join code for each.")
@click.option("--page", type=FILE, help="With --from: new HTML file with a QR code for each, to print.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="With --from: how long the codes are good.")
@click.option("--new-codes", is_flag=True, help="With --from: replace codes that were not used yet.")
def enrol_command(
    name: str | None,
    roles: tuple[str, ...],
    venue: Path,
    request: Path | None,
    out: Path | None,
    directory: Path | None,
    **listed: Any,
) -> None:
    """Enrol the device NAME, or a whole list of devices.

    One device: either --request and --out (private keys never move), or --device on one machine. A list: --from prints
    a join code for each device, which then joins with 'tapmesh join CODE' while 'tapmesh venue welcome' runs.

    \b
      tapmesh venue enrol --from readers.csv --page codes.html --venue ./event
      tapmesh venue enrol "Bar A" --role reader --venue ./event --request a.cbor --out a.answer
    """
    granted = frozenset(map(Role, roles))
    one = (request, out, directory)
    with errors_shown():
        match name, listed["source"]:
            case None, Path() as source if not granted and one == (None, None, None):
                enrol_from(venue, source, listed["page"], listed["hours"], anew=listed["new_codes"])
            case str(), None if granted and (listed["page"], listed["hours"], listed["new_codes"]) == (
                None,
                None,
                False,
            ):
                _enrol_one(name, granted, venue, one)
            case _:
                raise UnclearEnrolment(
                    "give either NAME and --role, for one device, or --from with a list; nothing was signed"
                )


def _enrol_one(
    name: str, granted: frozenset[Role], venue: Path, given: tuple[Path | None, Path | None, Path | None]
) -> None:
    match given:
        case None, None, Path() as directory:
            _enrol_here(name, granted, venue, directory)
        case Path() as request, Path() as out, None:
            _enrol_by_file(name, granted, venue, request, out)
        case _:
            raise UnclearEnrolment("give either --request and --out, or --device; nothing was signed")


def _enrol_by_file(name: str, roles: frozenset[Role], venue: Path, request: Path, out: Path) -> None:
    asked = read_request(request)
    if asked.name != name:
        raise UnclearEnrolment(f"that request is for {asked.name!r}, not for {name!r}; nothing was signed")
    require_absent(out)
    certificate, answer = trio.run(enrol, venue, asked, roles)
    write_new_file(out, answer, private=True)
    say(f"Signed: {describe(certificate)}")
    say(f"Compare that fingerprint with the device's screen, then there: tapmesh device accept {out.name} --dir ...")


def _enrol_here(name: str, roles: frozenset[Role], venue: Path, directory: Path) -> None:
    open_authority(venue / AUTHORITY_DIRECTORY)  # before keys are made for an event that is not there
    require_no_certificate(directory)
    # A request without a certificate is what an enrolment that was refused or interrupted leaves: go on from there.
    waiting = directory / REQUEST_FILE
    asked = read_request(waiting) if waiting.exists() else make_device(directory, name)
    if asked.name != name:
        raise UnclearEnrolment(
            f"{directory} waits to be enrolled as {asked.name!r}, not as {name!r}; nothing was signed"
        )
    certificate, answer = trio.run(enrol, venue, asked, roles)
    _accepted, entries = accept_answer(directory, answer)
    say(f"Enrolled: {describe(certificate)}")
    say(f"In {directory}; {entries} entries of the venue are there before doors.")


@venue.command()
@click.argument("name")
@_VENUE
@_OUT
def answer(name: str, venue: Path, out: Path) -> None:
    """Write the answer for an enrolled device NAME once more: its file was lost on the way."""
    with errors_shown():
        require_absent(out)
        certificate, data = trio.run(answer_again, venue, name)
        write_new_file(out, data, private=True)
    say(f"Written for {describe(certificate)}: only that device can use it.")


@venue.command("starter")
@_VENUE
@_OUT
def starter_command(venue: Path, out: Path) -> None:
    """Write what devices enrolled earlier have not got yet; they take it with 'tapmesh device load'."""
    with errors_shown():
        require_absent(out)
        runs = trio.run(starter, venue)
        write_new_file(out, make_starter(runs), private=True)
    say(f"Written to {out}. It is for devices of this venue only: it holds the key under which card ids are hashed.")


@venue.command()
@_VENUE
@click.option("--per-tap-cap", "cap", help="Most that one tap may take.")
@click.option("--add-zone", "added", multiple=True, help="A new bar area.")
@click.option("--remove-zone", "removed", multiple=True, help="A bar area that is gone.")
def edit(venue: Path, cap: str | None, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Change the venue document; readers take it over when they next sync, or from a starter."""
    with errors_shown():
        document = trio.run(edit_document, venue, Edit())
        cap_minor = None if cap is None else document.currency.parse(cap)
        change = Edit(per_tap_cap_minor=cap_minor, zones_added=added, zones_removed=removed)
        document = trio.run(partial(edit_document, venue, change))
    _say_document(document)


@venue.command()
@_VENUE
def show(venue: Path) -> None:
    """Show the venue document and every device that was enrolled."""
    with errors_shown():
        authority = open_authority(venue / AUTHORITY_DIRECTORY)
        document = trio.run(edit_document, venue, Edit())
    say(f"Venue fingerprint {authority.root.fingerprint}")
    _say_document(document)
    revoked = {statement.serial: statement.number for statement in registered(authority)}
    holding = {certificate.serial for certificate in authority.holders()}
    for certificate in sorted(authority.issued(), key=lambda issued: issued.name):
        number = revoked.get(certificate.serial)
        retired = "" if certificate.serial in holding else ", retired"
        say(f"  {describe(certificate)}{retired if number is None else f', REVOKED by statement {number}'}")


def _say_document(document: VenueDocument) -> None:
    say(f"{document.name}: at most {document.currency.format(document.per_tap_cap_minor)} a tap")
    say(f"Zones: {', '.join(document.zones)}")
