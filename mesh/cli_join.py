"""Joining by code: `tapmesh join` on the device; `tapmesh venue enrol --from`, `welcome` and `codes` in the office."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio

from mesh.cli_device import DIRECTORY, FILE, SIGNER, describe
from mesh.cli_output import errors_shown, say
from mesh.core.join import Line, Standing, standing
from mesh.core.join_code import parse_code
from mesh.core.join_rows import read_rows
from mesh.core.kinds import Role
from mesh.limits import JOIN_CSV_BYTES_MAX
from mesh.shell.authority import MANAGER_DIRECTORY
from mesh.shell.files import read_file, require_absent, write_new_file
from mesh.shell.join_device import Joined, join_venue
from mesh.shell.join_office import Invited, open_office
from mesh.shell.join_page import codes_page
from mesh.shell.join_welcome import WELCOME_PORT, WelcomeOptions, run_welcome
from mesh.shell.keys import load_identity
from mesh.shell.network import Endpoint
from mesh.shell.output import Output
from mesh.shell.pkcs11_uri import parse_token_uri
from mesh.shell.program import EVERY_INTERFACE, EndpointType
from mesh.shell.venue import edit_document
from mesh.views.automerge_document import Edit

DEVICE_DIRECTORY: Final = Path("/var/lib/tapmesh/device")
_HOUR_S: Final = 3600
_INTERFACE = click.option("--interface", help="Use only the network interface with this IPv4 address.")
_PROGRAM_OF: Final = {
    Role.READER: "reader",
    Role.GATEWAY: "gateway",
    Role.SETTLEMENT: "settlement",
    Role.COURIER: "courier",
}


@click.command()
@click.argument("code", nargs=-1, required=True)
@click.option(
    "--dir",
    "directory",
    type=DIRECTORY,
    default=DEVICE_DIRECTORY,
    show_default=True,
    help="Directory for this device's keys and data; made if it is not there.",
)
@click.option("--at", type=EndpointType(), help="Where the office is, if it is not found by itself.")
@SIGNER
@_INTERFACE
def join(
    code: tuple[str, ...], directory: Path, at: Endpoint | None, signer: str | None, interface: str | None
) -> None:
    """Make this device a member of the venue that printed CODE.

    Its keys are made here and never leave; with --signer the one that signs sales is made in the token. Start
    'tapmesh venue welcome' on the authority's machine first; both machines need one network. If anything breaks on the
    way, the same command goes on from there.

    \b
      tapmesh join 6APD5-JFDCC-90NR6-D7GJ1-358BN
      tapmesh join 6apd5jfdcc90nr6d7gj1358bn --dir /var/lib/tapmesh/bar-a --at 192.0.2.10:7401
    """
    with errors_shown():
        parsed = parse_code(" ".join(code))
        token = None if signer is None else parse_token_uri(signer)
        tell = partial(click.echo, err=True)
        joined = trio.run(partial(join_venue, parsed, directory, at=at, interface=interface, tell=tell, token=token))
    _say_joined(joined, directory)


def _say_joined(joined: Joined, directory: Path) -> None:
    say(f"Joined: {describe(joined.certificate)}")
    brought = f"{joined.entries} new entries of the venue" if joined.entries else "nothing new: all of it was here"
    say(f"Venue fingerprint {joined.venue_fingerprint}; {brought}.")
    programs = [name for role, name in _PROGRAM_OF.items() if role in joined.certificate.roles] or ["node"]
    zone = "" if joined.zone or programs[0] == "settlement" else " --zone ZONE"
    say(f"Next: tapmesh doctor --dir {directory}, then: tapmesh {programs[0]} run --dir {directory}{zone}")


# -- In the office -----------------------------------------------------------------------------------------------------


def enrol_from(venue: Path, source: Path, page: Path | None, hours: float | None, *, anew: bool) -> None:
    """Make codes for every device of a list and print them; see `tapmesh venue enrol --from`."""
    if page is not None:
        require_absent(page)
    office = open_office(venue)
    document = trio.run(edit_document, venue, Edit())
    places = read_rows(read_file(source, bytes_max=JOIN_CSV_BYTES_MAX, meaning="the list of devices"), document.zones)
    now_s = time.time()
    until_s = None if hours is None else int(now_s + hours * _HOUR_S)
    invited = office.invite(places, until_s=until_s, now_s=now_s, anew=anew)
    made = [(one.place, one.code) for one in invited if one.code is not None]
    if page is not None and made:
        html = codes_page(document.name, office.authority.root.fingerprint, made)
        write_new_file(page, html.encode("utf-8"), private=True)
    for one in invited:
        say(_invited_line(one))
    say(f"{len(made)} codes for {len(invited)} devices. Each is good once, for the device that it names.")
    if page is not None and made:
        say(f"To print: {page}. Who holds that page can join as these devices: keep it like a bunch of keys.")
    if made:
        say(f"Next: tapmesh venue welcome --venue {venue}; then on each device: tapmesh join CODE")


def _invited_line(one: Invited) -> str:
    what = ", ".join(sorted(role.value for role in one.place.roles))
    where = f" in {one.place.zone}" if one.place.zone else ""
    if one.code is not None:
        return f"{one.code}  {one.place.name} ({what}){where}"
    why = "is enrolled already" if one.standing is Standing.JOINED else "has a code already (--new-codes replaces it)"
    return f"{'-':<29}  {one.place.name} {why}"


@click.command()
@click.option("--venue", type=DIRECTORY, required=True, help="The directory that 'venue init' made.")
@click.option(
    "--listen",
    type=EndpointType(),
    default=f"{EVERY_INTERFACE}:{WELCOME_PORT}",
    show_default=True,
    help="Where to listen; port 0 lets the system choose.",
)
@click.option("--mdns/--no-mdns", default=True, help="Let devices find this office by themselves [default: yes].")
@_INTERFACE
@click.option("--until-all-joined", is_flag=True, help="End when every open code was used.")
@click.option("--json", "as_json", is_flag=True, help="Say what happens as one JSON object a line.")
def welcome(
    venue: Path, listen: Endpoint, mdns: bool, interface: str | None, until_all_joined: bool, as_json: bool
) -> None:
    """Take devices in that join with their codes, until stopped (Ctrl-C).

    Run it on the authority's machine, on a network that reaches the devices, and only while devices join. Nobody who
    listens on that network, or stands in between, learns a code or can use one.
    """
    if interface is not None and listen.host == EVERY_INTERFACE:
        listen = Endpoint(interface, listen.port)
    options = WelcomeOptions(listen, mdns, interface, until_all_joined)
    with errors_shown():
        trio.run(run_welcome, venue, options, Output(as_json))


@click.command()
@click.option("--venue", type=DIRECTORY, required=True, help="The directory that 'venue init' made.")
@click.option("--withdraw", metavar="NAME", help="Make the open code for this name void.")
def codes(venue: Path, withdraw: str | None) -> None:
    """Show what became of every join code, or withdraw one whose paper was lost."""
    with errors_shown():
        office = open_office(venue)
        now_s = time.time()
        if withdraw is not None:
            office.withdraw(withdraw, now_s)
        issued = office.authority.holders()
        for line in sorted(office.lines(), key=lambda line: line.place.name):
            say(f"{standing(line, issued, now_s).value:<14} {_line_text(line)}")


def _line_text(line: Line) -> str:
    roles = ", ".join(sorted(role.value for role in line.place.roles))
    return f"{line.place.name} ({roles}){f' in {line.place.zone}' if line.place.zone else ''}"


@click.command()
@click.option("--venue", type=DIRECTORY, required=True, help="The directory that 'venue init' made.")
@click.option("--out", type=FILE, required=True, help="New file to write.")
def root(venue: Path, out: Path) -> None:
    """Write the venue's root certificate: with it anyone can check logs and cases. It is no secret."""
    with errors_shown():
        identity = load_identity(venue / MANAGER_DIRECTORY)
        source = identity.directory / "root.pem"
        write_new_file(out, read_file(source, bytes_max=JOIN_CSV_BYTES_MAX, meaning="the venue's root certificate"))
    say(f"Written to {out}: venue fingerprint {identity.root.fingerprint}")
