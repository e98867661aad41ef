"""`tapmesh device`: what is done on the device itself: make keys, take the authority's answer, take newer starters."""

from __future__ import annotations

from pathlib import Path

import click

from mesh.cli_history import history_command
from mesh.cli_output import errors_shown, say
from mesh.cli_set_aside import set_aside
from mesh.cli_settings import settings_command
from mesh.core.certificate import DeviceCertificate
from mesh.core.enrolment import parse_starter
from mesh.limits import ENROLMENT_BYTES_MAX
from mesh.shell.enrolment import REQUEST_FILE, make_device
from mesh.shell.files import read_file
from mesh.shell.keys import load_identity
from mesh.shell.pkcs11_uri import parse_token_uri
from mesh.shell.starter import import_starter
from mesh.shell.venue import accept_answer

DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
SIGNER = click.option(
    "--signer",
    metavar="PKCS11-URI",
    help="Make the key that signs sales inside a token, for example "
    "'pkcs11:token=bar-a?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/tapmesh/pin'.",
)


@click.group()
def device() -> None:
    """Make this device a member of a venue by files: request, accept, load. With a code: 'tapmesh join'."""


device.add_command(set_aside)
device.add_command(settings_command)
device.add_command(history_command)


@device.command()
@click.option(
    "--dir", "directory", type=DIRECTORY, required=True, help="New directory for this device's keys and data."
)
@click.option("--name", required=True, help="What people call the device, for example 'Bar A'.")
@SIGNER
def request(directory: Path, name: str, signer: str | None) -> None:
    """Make this device's keys, and a request for the venue's authority to sign.

    The private keys stay in the directory; with --signer the one that signs sales is made in the token and cannot be
    read from it. Carry the request to the authority; it is no secret.
    """
    with errors_shown():
        made = make_device(directory, name, token=None if signer is None else parse_token_uri(signer))
    say(f"{made.name!r} has keys of its own: fingerprint {made.fingerprint}")
    say(f"Carry {directory / REQUEST_FILE} to the authority; both sides compare that fingerprint.")


@device.command()
@click.argument("answer", type=FILE)
@click.option("--dir", "directory", type=DIRECTORY, required=True, help="The device's directory.")
def accept(answer: Path, directory: Path) -> None:
    """Take the authority's ANSWER and become a member of its venue.

    Compare the venue's fingerprint with the one the authority shows: who gives the answer chooses the venue.
    """
    with errors_shown():
        data = read_file(answer, bytes_max=ENROLMENT_BYTES_MAX, meaning="an authority's answer")
        accepted, entries = accept_answer(directory, data)
    say(f"Enrolled: {describe(accepted.certificate)}")
    say(f"Venue fingerprint {accepted.root.fingerprint}; {entries} entries of the venue are here before doors.")


@device.command()
@click.argument("starter", type=FILE)
@click.option("--dir", "directory", type=DIRECTORY, required=True, help="The device's directory.")
def load(starter: Path, directory: Path) -> None:
    """Take a newer STARTER: the venue document and the devices enrolled since this one was."""
    with errors_shown():
        data = read_file(starter, bytes_max=ENROLMENT_BYTES_MAX, meaning="a starter")
        entries = import_starter(load_identity(directory), parse_starter(data))
    say(f"{entries} new entries." if entries else "Nothing new: this device has all of it.")


@device.command()
@click.option("--dir", "directory", type=DIRECTORY, required=True, help="The device's directory.")
def show(directory: Path) -> None:
    """Show who this device is."""
    with errors_shown():
        identity = load_identity(directory)
    say(describe(identity.certificate))
    say(f"Venue fingerprint {identity.root.fingerprint}")


def describe(certificate: DeviceCertificate) -> str:
    """One line about a device, for people."""
    roles = ", ".join(sorted(role.value for role in certificate.roles)) or "no role"
    return f"{certificate.name!r} ({roles}), fingerprint {certificate.fingerprint}"
