"""Names: which ones a device may have, and which two a person would confuse."""

from __future__ import annotations

import pytest
from cryptography import x509

from mesh.core.device_name import check_device_name, same_device_name
from mesh.core.kinds import Role
from mesh.limits import NAME_CHARS_MAX
from tests.factory import Venue


@pytest.mark.parametrize(
    "name", ["B", "Bar A", "Café", "吧台", "bar-2 (left)", "🍺 tent", "x" * 63, "x" * 64, "ü" * 32]
)
def test_name_that_can_be_read_aloud_is_good(name: str) -> None:
    assert check_device_name(name) is None


def test_name_has_one_to_64_characters() -> None:
    said = f"a device's name has 1 to {NAME_CHARS_MAX} characters"
    assert [check_device_name(name) for name in ("", "x" * 65, "x" * 1000)] == [said] * 3
    assert check_device_name("x" * 64) is check_device_name("x") is None


@pytest.mark.parametrize(
    "name",
    [
        " ",
        " Bar",
        "Bar ",
        "Bar\n",
        "\tBar",
        "Bar\x07A",
        "Bar\x1b[2JA",
        "Bar\u200bA",
        "Bar\u202eA",
        "Bar\xa0A",
        "Bar\u3000A",
        "\ud800",
        "Cafe\u0301",
        "\u212bngstrom",
    ],
)
def test_name_that_hides_something_or_has_two_spellings_is_refused(name: str) -> None:
    assert check_device_name(name) == "a device's name is printable text (Unicode NFC) without spaces at its ends"


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Bar A", "Bar A"),
        ("Bar A", "bar a"),
        ("STRASSE", "straße"),
        ("Bar １", "Bar 1"),
        ("ﬁle", "FILE"),
        ("Café", "CAFE\u0301"),
        ("ΌΣΟΣ", "όσος"),
        ("\u1fb3", "\u0391\u0345"),
        ("℡", "TEL"),
    ],
)
def test_names_that_a_person_would_confuse_are_the_same(left: str, right: str) -> None:
    assert same_device_name(left, right) is True
    assert same_device_name(right, left) is True


@pytest.mark.parametrize(
    ("left", "right"), [("Bar A", "Bar B"), ("Bar A", "BarA"), ("Bar 1", "Bar 11"), ("", "a"), ("Cafe", "Café")]
)
def test_names_that_differ_are_two(left: str, right: str) -> None:
    assert same_device_name(left, right) is False
    assert same_device_name(right, left) is False


@pytest.mark.parametrize(
    ("name", "fits"), [("ü" * 32, True), ("ü" * 32 + "x", False), ("酒" * 21, True), ("酒" * 22, False)]
)
def test_letters_that_are_not_ascii_count_as_the_bytes_a_certificate_has_for_them(name: str, fits: bool) -> None:
    problem = check_device_name(name)
    assert (problem is None) is fits
    assert fits or "64 bytes" in str(problem)


@pytest.mark.parametrize("venue", ["ü" * 64, "x" + "酒" * 63, "Riverside"])
def test_event_of_any_name_has_a_root_and_devices_of_the_longest_names(venue: str) -> None:
    made = Venue(venue)
    assert made.device("ü" * 32, Role.READER).certificate.name == "ü" * 32
    (shown,) = x509.load_der_x509_certificate(made.root.der).subject
    assert venue.startswith(str(shown.value))
    assert len(str(shown.value).encode()) >= min(62, len(venue))
