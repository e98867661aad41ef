"""Links: TLS 1.3 with both certificates required, and only this venue's root trusted.

* No session tickets: a resumed session would skip the check of the peer's certificate after it was revoked.
* No check of certificate dates: boards boot without a clock (X509_V_FLAG_NO_CHECK_TIME).
* No check of host names: a peer is who its certificate says, wherever it was found.
* OpenSSL checks the chain; :func:`peer_certificate` then applies this system's own rules, which are stricter.

A refused client sees its handshake succeed and then the end of the stream (TLS 1.3 sends the client's certificate
last): nobody is in before the first application message was answered.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate
from mesh.errors import LocalError, PeerError
from mesh.limits import KEY_FILE_BYTES_MAX
from mesh.shell.files import read_private_file
from mesh.shell.keys import CERTIFICATE_FILE, LINK_KEY_FILE, Identity

_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
_Stream = TypeVar("_Stream", bound=trio.abc.Stream)


class _FullReads(ssl.SSLObject):
    """Reads as much as has arrived, not one TLS record (16 KiB) at a time: a stream above pays its way once a read."""

    def read(self, size: int = 1024, buffer: Any = None) -> Any:
        first = super().read(size, buffer)
        if buffer is not None or not first:
            return first
        parts, left = [first], size - len(first)
        while left > 0:
            try:
                part = super().read(left)
            except ssl.SSLError:
                # Nothing more for now; or the link has ended, or is at fault: then the next read meets that first.
                break
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


class NoPeerCertificate(PeerError):
    """The link's other end showed no certificate; the link is closed."""


class HandshakeRefused(PeerError):
    """TLS did not come about: another venue, another protocol, no certificate, or a broken connection."""


def with_full_reads(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, for links that carry bulk. Not for HTTP: a server there bounds what one read may bring."""
    context.sslobject_class = _FullReads
    return context


def server_context(identity: Identity) -> ssl.SSLContext:
    """The context for accepted links."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _configured(context, identity)


def client_context(identity: Identity) -> ssl.SSLContext:
    """The context for links this node opens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _configured(context, identity)


async def handshake(stream: trio.SSLStream[_Stream], root: VenueRoot) -> DeviceCertificate:
    """Carry the handshake out and return who is there; any refusal is a :class:`PeerError`. The caller sets the
    deadline (`HANDSHAKE_S_MAX`) and closes the stream."""
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        raise HandshakeRefused(f"no link: {_reason(error)}") from error
    return peer_certificate(stream, root)


def peer_certificate(stream: trio.SSLStream[_Stream], root: VenueRoot) -> DeviceCertificate:
    """After the handshake: the peer's certificate under this system's rules, or a :class:`PeerError`."""
    der = stream.getpeercert(binary_form=True)
    if not isinstance(der, bytes):
        raise NoPeerCertificate("the other end of the link showed no certificate")
    return parse_device_certificate(der, root)


def _configured(context: ssl.SSLContext, identity: Identity) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=identity.root.der)
    key_path = identity.directory / LINK_KEY_FILE
    read_private_file(key_path, bytes_max=KEY_FILE_BYTES_MAX, meaning="the device's link key")
    _load_chain(context, identity.directory / CERTIFICATE_FILE, key_path)
    return context


def _load_chain(context: ssl.SSLContext, certificate_path: Path, key_path: Path) -> None:
    try:
        context.load_cert_chain(certificate_path, key_path)
    except (ssl.SSLError, OSError) as error:
        raise LocalError(
            f"the device's certificate and link key in {certificate_path.parent} do not belong together ({error}); "
            f"restore the device's own files, or enrol it anew"
        ) from error


def _reason(error: trio.BrokenResourceError) -> str:
    cause = error.__cause__
    match cause:
        case ssl.SSLCertVerificationError():
            return f"the other end's certificate is not of this venue ({cause.verify_message})"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return "the connection broke during the handshake"
        case ssl.SSLError():
            return f"TLS was refused ({cause.reason or cause})"
        case None:
            return "the connection broke during the handshake"
        case _:
            return f"the connection broke during the handshake ({cause})"
