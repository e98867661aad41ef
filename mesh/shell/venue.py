"""What the venue's office does: make an event, enrol devices, edit the venue document, hand out starters.

The office holds `DIR/authority` (the root key, off the mesh) and `DIR/manager` (a device that publishes what the
authority decided). Certificates are published as DEVICE entries, so that every reader knows every seal before doors.
Publishing goes by the register of issued certificates: what a command left undone is done by the next one.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from pathlib import Path

from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.enrolment import Answer, Request, make_answer
from mesh.core.kinds import Kind, Lane, Role
from mesh.errors import LocalError
from mesh.shell.authority import (
    AUTHORITY_DIRECTORY,
    MANAGER_DIRECTORY,
    Authority,
    create_authority,
    open_authority,
)
from mesh.shell.bundle_key import complete
from mesh.shell.device import open_device
from mesh.shell.enrolment import check_answer, install_certificate, make_device
from mesh.shell.files import give_name, make_new_directory, require_absent
from mesh.shell.keys import load_identity
from mesh.shell.starter import export_starter, import_starter
from mesh.views.automerge_document import (
    CARD_ID_KEY_BYTES,
    EVENT_BYTES,
    DocumentFields,
    Edit,
    check_fields,
    first_document,
    make_change,
)
from mesh.views.venue_document import VenueDocument


class NotIssued(LocalError):
    """No certificate was issued for that name."""


class NoDocument(LocalError):
    """The manager's device holds no venue document that can be read."""


async def create_venue(directory: Path, manager: str, fields: DocumentFields) -> VenueRoot:
    """Make an event in a new directory: authority, first manager, first venue document. All of it or nothing.

    `fields.event` and `fields.card_id_key` are drawn here, whatever they hold.
    """
    drawn = replace(fields, event=secrets.token_bytes(EVENT_BYTES), card_id_key=secrets.token_bytes(CARD_ID_KEY_BYTES))
    check_fields(drawn)
    require_absent(directory)
    partial = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}.partial")
    make_new_directory(partial)
    try:
        root = await _fill_venue(partial, manager, drawn)
        give_name(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


async def _fill_venue(directory: Path, manager: str, fields: DocumentFields) -> VenueRoot:
    authority = create_authority(directory / AUTHORITY_DIRECTORY, fields.name)
    request = make_device(directory / MANAGER_DIRECTORY, manager)
    certificate = authority.sign_request(request, frozenset({Role.MANAGER}))
    answer = Answer(authority.root, certificate, ())
    install_certificate(directory / MANAGER_DIRECTORY, answer)
    async with open_device(directory / MANAGER_DIRECTORY) as device:
        log_id = await device.open_lane(Lane.CONTROL)
        await device.append(Lane.CONTROL, Kind.VENUE_CHANGE, first_document(log_id, fields))
    return authority.root


async def enrol(venue: Path, request: Request, roles: frozenset[Role]) -> tuple[DeviceCertificate, bytes]:
    """Sign a request, publish the certificate, and return it with the answer for the device."""
    authority = open_authority(venue / AUTHORITY_DIRECTORY)
    certificate = authority.sign_request(request, roles)
    return certificate, await _answer(venue, authority, certificate)


async def answer_again(venue: Path, name: str) -> tuple[DeviceCertificate, bytes]:
    """The answer for a device that is in the register already: its file was lost, or the command ended halfway."""
    authority = open_authority(venue / AUTHORITY_DIRECTORY)
    for certificate in authority.holders():
        if certificate.name == name:
            return certificate, await _answer(venue, authority, certificate)
    raise NotIssued(f"no device called {name!r} is enrolled in {venue}; 'tapmesh venue show' lists those that are")


async def _answer(venue: Path, authority: Authority, certificate: DeviceCertificate) -> bytes:
    return make_answer(authority.root, certificate, await starter(venue))


async def starter(venue: Path) -> tuple[bytes, ...]:
    """The newest starter: the venue document and every certificate in the register, published first where needed."""
    manager = venue / MANAGER_DIRECTORY
    issued = open_authority(venue / AUTHORITY_DIRECTORY).issued()
    async with open_device(manager) as device:
        known = {certificate.serial for certificate in device.devices.all()}
        for certificate in issued:
            if certificate.serial not in known:
                await device.append(Lane.CONTROL, Kind.DEVICE, certificate.der)
        await complete(device)
    return export_starter(load_identity(manager))


async def edit_document(venue: Path, edit: Edit) -> VenueDocument:
    """Change the venue document as the manager; returns it as it is then."""
    async with open_device(venue / MANAGER_DIRECTORY) as device:
        if edit != Edit():
            log_id = await device.open_lane(Lane.CONTROL)
            body = make_change(device.venue.changes(), log_id, edit)
            await device.append(Lane.CONTROL, Kind.VENUE_CHANGE, body)
        document = device.venue.document()
    if document is None:
        raise NoDocument(f"{venue} has no readable venue document: {device.venue.problem()}")
    return document


def accept_answer(directory: Path, data: bytes) -> tuple[Answer, int]:
    """Make the device in `directory` whole with an authority's answer; returns it and how many entries it brought."""
    answer = check_answer(directory, data)
    install_certificate(directory, answer)
    return answer, import_starter(load_identity(directory), answer.starter)
