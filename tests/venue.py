"""A venue on disk for tests: a real authority and really enrolled devices, without a store."""

from __future__ import annotations

from pathlib import Path

from mesh.core.enrolment import make_answer
from mesh.core.kinds import Role
from mesh.shell.authority import Authority
from mesh.shell.enrolment import check_answer, install_certificate, make_device
from mesh.shell.keys import Identity, load_identity


def enrol(authority: Authority, directory: Path, name: str, *roles: Role) -> Identity:
    """Enrol one device in `directory` the way the commands do."""
    request = make_device(directory, name)
    certificate = authority.sign_request(request, frozenset(roles))
    answer = check_answer(directory, make_answer(authority.root, certificate, ()))
    install_certificate(directory, answer)
    return load_identity(directory)
