"""Requests and answers to the byte: who holds which key, and what is refused before anything is signed or changed."""

from __future__ import annotations

from typing import Final

import pytest
from nacl.signing import VerifyKey

from mesh.core.certificate import BadCertificate, ForeignVenue, keys_fingerprint
from mesh.core.codec import NotCanonical, TooLarge, Value, encode
from mesh.core.enrolment import (
    Answer,
    AnswerForAnotherDevice,
    BadAnswer,
    BadRequest,
    NoPossession,
    Request,
    make_answer,
    make_request,
    make_starter,
    parse_answer,
    parse_request,
    parse_starter,
)
from mesh.core.kinds import Role
from mesh.core.signing import Domain, encode_statement
from mesh.errors import PeerError
from mesh.limits import ENROLMENT_BYTES_MAX, NAME_CHARS_MAX, REQUEST_BYTES_MAX
from tests.factory import Venue, VenueDevice

VENUE: Final = Venue("Enrolment")
BAR: Final = VENUE.device("Bar A", Role.READER)
TILL: Final = VENUE.device("Till", Role.TILL)
LINK, LOG = BAR.certificate.link_key, BAR.certificate.log_key
DOMAIN: Final = b"tapmesh/request/1"


def link_signs(device: VenueDevice, message: bytes) -> bytes:
    return device.link_key.sign(message)


def sign_link(domain: Domain, message: bytes) -> bytes:
    return link_signs(BAR, encode_statement(domain, message))


def requested(fields: list[Value], *, proven: list[Value] | None = None) -> bytes:
    """A request with these fields, and both of BAR's keys' signatures over them (or over other ones)."""
    message = DOMAIN + encode(fields if proven is None else proven)
    return encode([*fields, link_signs(BAR, message), BAR.sign_anything(message)])


FIELDS: Final[list[Value]] = [1, "Bar A", LINK, LOG]


# -- Requests ----------------------------------------------------------------------------------------------------------


def test_request_is_these_bytes_with_both_keys_signatures_in_their_places() -> None:
    data = make_request("Bar A", LINK, LOG, sign_link=sign_link, sign_log=BAR.sign)
    assert data == requested(FIELDS)
    message = DOMAIN + encode(FIELDS)
    VerifyKey(LINK).verify(message, data[-130:-66])
    VerifyKey(LOG).verify(message, data[-64:])


def test_request_is_read_back_with_the_fingerprint_that_people_compare() -> None:
    request = parse_request(requested(FIELDS))
    assert request == Request("Bar A", LINK, LOG)
    assert request.fingerprint == keys_fingerprint(LINK, LOG) == BAR.certificate.fingerprint


def test_whoever_lacks_one_of_the_two_keys_is_told_which() -> None:
    message = DOMAIN + encode(FIELDS)
    by_link, by_log = link_signs(BAR, message), BAR.sign_anything(message)
    for proofs, which in (((by_log, by_log), "link"), ((by_link, by_link), "log"), ((by_log, by_link), "link")):
        with pytest.raises(NoPossession, match=f"not signed by the {which} key"):
            parse_request(encode([*FIELDS, *proofs]))
    thief_link = link_signs(TILL, message)
    with pytest.raises(NoPossession, match="link key"):
        parse_request(encode([*FIELDS, thief_link, by_log]))


@pytest.mark.parametrize(
    "proven",
    [
        [2, "Bar A", LINK, LOG],
        [1, "Bar B", LINK, LOG],
        [1, "Bar A", LOG, LINK],
        [1, "Bar A", LINK, LINK],
        [1, "Bar A", LINK],
    ],
)
def test_proof_for_another_name_or_another_key_is_none_for_this_request(proven: list[Value]) -> None:
    with pytest.raises(NoPossession):
        parse_request(requested(FIELDS, proven=proven))


def test_proof_of_another_domain_is_none() -> None:
    for begin in (b"", b"tapmesh/card/1", b"tapmesh/entry/1"):
        message = begin + encode(FIELDS)
        with pytest.raises(NoPossession):
            parse_request(encode([*FIELDS, link_signs(BAR, message), BAR.sign_anything(message)]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([2, "Bar A", LINK, LOG], "version 2"),
        ([0, "Bar A", LINK, LOG], "version 0"),
        ([True, "Bar A", LINK, LOG], "version"),
        ([1, "", LINK, LOG], "1 to 64 characters"),
        ([1, "x" * (NAME_CHARS_MAX + 1), LINK, LOG], "1 to 64 characters"),
        ([1, "Bar\x07", LINK, LOG], "printable"),
        ([1, "Bar A", LINK[:31], LOG], "32 bytes"),
        ([1, "Bar A", LINK, LOG + b"\x00"], "32 bytes"),
        ([1, "Bar A", LINK, LINK], "same key"),
        ([1, b"Bar A", LINK, LOG], "a request is"),
        (["1", "Bar A", LINK, LOG], "a request is"),
        ([1, "Bar A", None, LOG], "a request is"),
        ([1, "Bar A", LINK], "a request is"),
        ([1, "Bar A", LINK, LOG, 0], "a request is"),
    ],
)
def test_request_of_another_shape_is_refused_though_its_proofs_are_good(fields: list[Value], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        parse_request(requested(fields))


@pytest.mark.parametrize(("link_bytes", "log_bytes"), [(63, 64), (65, 64), (64, 63), (64, 65), (0, 0)])
def test_proof_has_64_bytes(link_bytes: int, log_bytes: int) -> None:
    with pytest.raises(BadRequest, match="proofs 64"):
        parse_request(encode([*FIELDS, bytes(link_bytes), bytes(log_bytes)]))


def test_request_with_the_longest_name_is_read() -> None:
    name = "x" * NAME_CHARS_MAX
    assert parse_request(requested([1, name, LINK, LOG])).name == name


def test_request_that_is_too_long_or_not_canonical_is_refused() -> None:
    with pytest.raises(NotCanonical):
        parse_request(b"\x00" * REQUEST_BYTES_MAX)
    with pytest.raises(TooLarge):
        parse_request(b"\x00" * (REQUEST_BYTES_MAX + 1))
    with pytest.raises(NotCanonical):
        parse_request(requested(FIELDS) + b"\x00")


# -- Answers -----------------------------------------------------------------------------------------------------------

RUNS: Final = (b"first run", b"", b"third run")


def answered(*, root: Value = VENUE.root.der, device: Value = BAR.certificate.der, starter: Value = RUNS) -> bytes:
    return encode([1, root, device, starter])


def test_answer_is_these_bytes_and_is_read_back_field_by_field() -> None:
    data = make_answer(VENUE.root, BAR.certificate, RUNS)
    assert data == answered()
    assert parse_answer(data, LINK, LOG) == Answer(VENUE.root, BAR.certificate, RUNS)
    assert parse_answer(make_answer(VENUE.root, BAR.certificate, ()), LINK, LOG).starter == ()


def test_answer_is_only_for_the_device_that_holds_both_keys() -> None:
    data = make_answer(VENUE.root, BAR.certificate, RUNS)
    for link_key, log_key in (
        (TILL.certificate.link_key, TILL.certificate.log_key),
        (LINK, TILL.certificate.log_key),
        (TILL.certificate.link_key, LOG),
        (LOG, LINK),
    ):
        with pytest.raises(AnswerForAnotherDevice, match="Bar A") as refused:
            parse_answer(data, link_key, log_key)
        assert BAR.certificate.fingerprint in str(refused.value)


@pytest.mark.parametrize("starter", [[b"run", "text"], [None], [b"run", [b"run"]], [1]])
def test_starter_run_that_is_no_byte_string_spoils_the_answer(starter: list[Value]) -> None:
    with pytest.raises(BadAnswer, match="byte strings"):
        parse_answer(answered(starter=starter), LINK, LOG)
    with pytest.raises(BadAnswer, match="byte strings"):
        parse_starter(encode([1, starter]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([2, VENUE.root.der, BAR.certificate.der, []], "version 2"),
        ([0, VENUE.root.der, BAR.certificate.der, []], "version 0"),
        ([True, VENUE.root.der, BAR.certificate.der, []], "version"),
        ([1, VENUE.root.der, BAR.certificate.der], "an answer is"),
        ([1, VENUE.root.der, BAR.certificate.der, [], 0], "an answer is"),
        ([1, VENUE.root.der, BAR.certificate.der, None], "an answer is"),
        ([1, None, BAR.certificate.der, []], "an answer is"),
        ([1, VENUE.root.der, "der", []], "an answer is"),
    ],
)
def test_answer_of_another_shape_is_refused(fields: list[Value], said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        parse_answer(encode(fields), LINK, LOG)


def test_answer_with_certificates_that_do_not_fit_each_other_is_refused() -> None:
    elsewhere = Venue("Elsewhere")
    with pytest.raises(ForeignVenue):
        parse_answer(answered(root=elsewhere.root.der), LINK, LOG)
    with pytest.raises(BadCertificate):
        parse_answer(answered(root=BAR.certificate.der), LINK, LOG)
    with pytest.raises(PeerError):
        parse_answer(answered(device=VENUE.root.der), LINK, LOG)
    with pytest.raises(BadCertificate):
        parse_answer(answered(device=b""), LINK, LOG)


def test_starter_is_these_bytes_and_is_read_back_in_order() -> None:
    assert make_starter(RUNS) == encode([1, list(RUNS)])
    assert parse_starter(make_starter(RUNS)) == RUNS
    assert parse_starter(make_starter(())) == ()


@pytest.mark.parametrize("fields", [[2, []], [0, []], [True, []], [1], [1, None], [1, [], 0], ["1", []], []])
def test_starter_of_another_shape_is_refused(fields: list[Value]) -> None:
    with pytest.raises(BadAnswer, match="a starter file is"):
        parse_starter(encode(fields))


def test_answer_or_starter_beyond_its_bound_is_not_decoded() -> None:
    too_long = bytes(ENROLMENT_BYTES_MAX + 1)
    with pytest.raises(TooLarge):
        parse_answer(too_long, LINK, LOG)
    with pytest.raises(TooLarge):
        parse_starter(too_long)
