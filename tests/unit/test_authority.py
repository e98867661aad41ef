"""Enrolment by the commands themselves: keys never move, nothing is overwritten, and who may not is refused."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result

from mesh.cli import COMMANDS_GROUP, LazyGroup, main
from mesh.cli_output import exit_code
from mesh.core.codec import decode_array, encode
from mesh.core.currency import Currency
from mesh.core.enrolment import NoPossession, parse_answer, parse_request
from mesh.core.kinds import Role
from mesh.errors import LocalError, PeerError, StorageError, TapmeshError
from mesh.shell.device import open_device
from mesh.shell.keys import load_identity
from mesh.shell.lock import StoreInUse, exclusive
from mesh.shell.starter import export_starter, import_starter
from mesh.views.venue_document import VenueDocument

COMMANDS = LazyGroup(
    name="tapmesh",
    found={
        "venue": EntryPoint("venue", "mesh.cli_venue:venue", COMMANDS_GROUP),
        "device": EntryPoint("device", "mesh.cli_device:device", COMMANDS_GROUP),
        "missing": EntryPoint("missing", "mesh.no_such_module:command", COMMANDS_GROUP),
        "wrong": EntryPoint("wrong", "mesh.errors:PeerError", COMMANDS_GROUP),
    },
)


@dataclass(frozen=True, slots=True)
class Office:
    """One event on disk and the command line over it."""

    directory: Path

    @property
    def venue(self) -> Path:
        return self.directory / "event"

    def tapmesh(self, *arguments: object) -> Result:
        return CliRunner().invoke(COMMANDS, list(map(str, arguments)))

    def done(self, *arguments: object) -> str:
        result = self.tapmesh(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, exit_code: int, *arguments: object) -> str:
        result = self.tapmesh(*arguments)
        assert result.exit_code == exit_code, (result.output, result.exception)
        return " ".join(result.stderr.split())

    def enrol(self, name: str, *roles: str) -> Path:
        directory = self.directory / name
        options = [option for role in roles for option in ("--role", role)]
        self.done("venue", "enrol", name, *options, "--venue", self.venue, "--device", directory)
        return directory


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    zones = ("--zone", "north", "--zone", "south")
    made.done("venue", "init", made.venue, "--name", "Riverside", *zones, "--per-tap-cap", "49.50")
    return made


async def _known_to(directory: Path) -> tuple[VenueDocument | None, list[str]]:
    async with open_device(directory) as device:
        return device.venue.document(), [certificate.name for certificate in device.devices.all()]


def _request(office: Office, name: str = "Bar A") -> Path:
    directory = office.directory / "asking"
    office.done("device", "request", "--dir", directory, "--name", name)
    return directory / "request.cbor"


def _sign(office: Office, request: Path, out: Path, name: str = "Bar A") -> tuple[object, ...]:
    return ("venue", "enrol", name, "--role", "reader", "--venue", office.venue, "--request", request, "--out", out)


@pytest.mark.proves("S2.6")
def test_enrolled_reader_holds_venue_document_and_every_device_before_doors(office: Office) -> None:
    bar_a = office.enrol("Bar A", "reader")
    bar_b = office.enrol("Bar B", "reader", "till")
    document, names = trio.run(_known_to, bar_b)
    assert document is not None
    assert (document.name, document.currency, document.zones) == ("Riverside", Currency("EUR", 2), ("north", "south"))
    assert (document.per_tap_cap_minor, len(document.event), len(document.card_id_key)) == (4950, 4, 16)
    assert names == ["Bar A", "Bar B", "manager"]
    assert trio.run(_known_to, bar_a) == (document, ["Bar A", "manager"])


def test_reader_enrolled_earlier_learns_of_later_ones_from_a_starter_loaded_twice(office: Office) -> None:
    bar_a = office.enrol("Bar A", "reader")
    office.enrol("Bar B", "reader")
    office.done("venue", "edit", "--venue", office.venue, "--per-tap-cap", "20", "--add-zone", "east")
    starter = office.directory / "starter"
    office.done("venue", "starter", "--venue", office.venue, "--out", starter)
    assert "4 new entries" in office.done("device", "load", starter, "--dir", bar_a)
    assert "Nothing new" in office.done("device", "load", starter, "--dir", bar_a)
    document, names = trio.run(_known_to, bar_a)
    assert document is not None
    assert (document.per_tap_cap_minor, document.zones) == (2000, ("east", "north", "south"))
    assert names == ["Bar A", "Bar B", "manager"]


def test_two_events_of_one_name_share_neither_venue_id_nor_event_nor_card_key(tmp_path: Path) -> None:
    documents = []
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        one = Office(tmp_path / number)
        one.done("venue", "init", one.venue, "--name", "Riverside", "--zone", "north", "--per-tap-cap", "50")
        document, _names = trio.run(_known_to, one.enrol("Bar A", "reader"))
        assert document is not None
        root = load_identity(one.venue / "manager").root
        documents.append((root.venue_id, document.event, document.card_id_key))
    assert all(first != second for first, second in zip(*documents, strict=True))


def test_device_enrolled_by_files_keeps_its_private_keys_at_home(office: Office) -> None:
    request, answer = _request(office), office.directory / "answer"
    keys = [(request.parent / name).read_bytes() for name in ("link.key", "log.key")]
    signed = office.done(*_sign(office, request, answer))
    accepted = office.done("device", "accept", answer, "--dir", request.parent)
    identity = load_identity(request.parent)
    assert identity.certificate.fingerprint in signed
    assert identity.certificate.fingerprint in accepted
    assert identity.root.fingerprint in accepted
    assert [(request.parent / name).read_bytes() for name in ("link.key", "log.key")] == keys
    for directory in (office.venue / "authority" / "issued", office.venue / "manager"):
        assert all(key not in path.read_bytes() for path in directory.iterdir() for key in keys)


@pytest.mark.proves("M7")
@pytest.mark.parametrize("field", [2, 3, 4, 5])
def test_request_for_a_key_that_is_not_held_is_not_signed(office: Office, field: int) -> None:
    request = _request(office)
    fields = list(decode_array(request.read_bytes(), bytes_max=1024))
    stolen = load_identity(office.venue / "manager").certificate
    fields[field] = {2: stolen.link_key, 3: stolen.log_key, 4: fields[5], 5: fields[4]}[field]
    with pytest.raises(NoPossession):
        parse_request(encode(fields))
    forged = office.directory / "forged"
    forged.write_bytes(encode(fields))
    assert "not signed by" in office.refused(3, *_sign(office, forged, office.directory / "answer"))
    assert not (office.directory / "answer").exists()


@pytest.mark.proves("M7")
def test_request_whose_name_was_changed_on_the_way_is_not_signed(office: Office) -> None:
    request = _request(office)
    renamed = office.directory / "renamed"
    renamed.write_bytes(request.read_bytes().replace(b"Bar A", b"Bar Z"))
    assert "not signed by" in office.refused(3, *_sign(office, renamed, office.directory / "answer", "Bar Z"))


def test_request_for_another_name_than_the_authority_typed_is_not_signed(office: Office) -> None:
    request = _request(office)
    assert "'Bar A', not for 'Till'" in office.refused(2, *_sign(office, request, office.directory / "x", "Till"))


@pytest.mark.parametrize("name", ["Bar A", "bar a", "BAR A", "Ｂar A"])
def test_name_that_could_be_confused_with_an_enrolled_one_is_refused(office: Office, name: str) -> None:
    office.enrol("Bar A", "reader")
    request, out = _request(office, name), office.directory / "answer"
    assert "Choose another name" in office.refused(2, *_sign(office, request, out, name))
    assert not out.exists()


def test_keys_are_enrolled_once(office: Office) -> None:
    request, out = _request(office), office.directory / "answer"
    office.done(*_sign(office, request, out))
    again = _sign(office, request, office.directory / "second")
    assert "enrolled with a key of this request" in office.refused(2, *again)


def test_answer_that_was_lost_is_written_again_for_the_same_certificate(office: Office) -> None:
    request, out = _request(office), office.directory / "answer"
    office.done(*_sign(office, request, out))
    again = office.directory / "again"
    office.done("venue", "answer", "Bar A", "--venue", office.venue, "--out", again)
    keys = parse_request(request.read_bytes())
    first = parse_answer(out.read_bytes(), keys.link_key, keys.log_key)
    assert parse_answer(again.read_bytes(), keys.link_key, keys.log_key).certificate == first.certificate


def test_enrolment_that_was_refused_for_its_name_can_go_on_under_the_same_directory_only_with_that_name(
    office: Office,
) -> None:
    office.enrol("Bar A", "reader")
    directory = office.directory / "other"
    options = ("--role", "reader", "--venue", office.venue, "--device", directory)
    office.refused(2, "venue", "enrol", "bar a", *options)
    assert "waits to be enrolled as 'bar a'" in office.refused(2, "venue", "enrol", "Bar B", *options)


@pytest.mark.proves("M7")
def test_answer_for_another_device_is_refused(office: Office) -> None:
    request, out = _request(office), office.directory / "answer"
    office.done(*_sign(office, request, out))
    other = office.directory / "other"
    office.done("device", "request", "--dir", other, "--name", "Bar B")
    assert "other keys than this one" in office.refused(3, "device", "accept", out, "--dir", other)
    assert not (other / "device.pem").exists()


def test_answer_cut_off_anywhere_is_refused_and_leaves_the_device_able_to_accept_the_whole_one(office: Office) -> None:
    request, out = _request(office), office.directory / "answer"
    office.done(*_sign(office, request, out))
    whole, cut = out.read_bytes(), office.directory / "cut"
    for length in range(0, len(whole), 397):
        cut.write_bytes(whole[:length])
        office.refused(3, "device", "accept", cut, "--dir", request.parent)
    office.done("device", "accept", out, "--dir", request.parent)


def test_device_whose_power_failed_between_two_files_accepts_the_answer_again(office: Office) -> None:
    request, out = _request(office), office.directory / "answer"
    office.done(*_sign(office, request, out))
    office.done("device", "accept", out, "--dir", request.parent)
    (request.parent / "device.pem").unlink()
    office.done("device", "accept", out, "--dir", request.parent)


@pytest.mark.proves("M7")
def test_starter_of_a_foreign_venue_is_refused_whole(office: Office, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = Office(tmp_path / "foreign")
    foreign.done("venue", "init", foreign.venue, "--name", "Riverside", "--zone", "north", "--per-tap-cap", "50")
    bar_a = load_identity(office.enrol("Bar A", "reader"))
    with pytest.raises(PeerError):
        import_starter(bar_a, export_starter(load_identity(foreign.venue / "manager")))


@pytest.mark.proves("M7")
def test_starter_with_any_damaged_run_stores_nothing(office: Office) -> None:
    bar_a = load_identity(office.enrol("Bar A", "reader"))
    office.enrol("Bar B", "reader")
    runs = list(export_starter(load_identity(office.venue / "manager")))
    for at in range(0, len(runs[-1]), 61):
        damaged = bytearray(runs[-1])
        damaged[at] ^= 1
        with pytest.raises(PeerError):
            import_starter(bar_a, [*runs[:-1], bytes(damaged)])
    assert import_starter(bar_a, runs) == 2


def test_no_command_overwrites(office: Office) -> None:
    bar_a = office.enrol("Bar A", "reader")
    request, taken = _request(office, "Bar B"), office.directory / "taken"
    taken.write_bytes(b"precious")
    init = ("--name", "Other", "--zone", "north", "--per-tap-cap", "1")
    before = {path: path.read_bytes() for path in office.directory.rglob("*.pem")}
    office.refused(2, "venue", "init", office.venue, *init)
    office.refused(2, "venue", "init", office.directory / "Bar A", *init)
    office.refused(2, "device", "request", "--dir", bar_a, "--name", "Bar C")
    office.refused(2, "venue", "enrol", "Bar C", "--role", "reader", "--venue", office.venue, "--device", bar_a)
    office.refused(2, *_sign(office, request, taken, "Bar B"))
    office.refused(2, "venue", "starter", "--venue", office.venue, "--out", taken)
    assert taken.read_bytes() == b"precious"
    assert {path: path.read_bytes() for path in office.directory.rglob("*.pem")} == before


@pytest.mark.parametrize(
    "options",
    [
        ("--currency", "euro"),
        ("--per-tap-cap", "1.005"),
        ("--per-tap-cap", "0"),
        ("--per-tap-cap", "-5"),
        ("--per-tap-cap", "99999999999"),
        ("--zone", ""),
        ("--zone", "north\nbar"),
        ("--manager", " "),
        ("--name", ""),
        ("--name", "x" * 65),
    ],
)
def test_event_that_cannot_be_meant_leaves_nothing_behind(tmp_path: Path, options: tuple[str, str]) -> None:
    given = {"--name": "Riverside", "--per-tap-cap": "50", "--zone": "north", options[0]: options[1]}
    arguments = [item for pair in given.items() for item in pair]
    Office(tmp_path).refused(2, "venue", "init", tmp_path / "event", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_authority_key_that_others_can_read_signs_nothing(office: Office) -> None:
    (office.venue / "authority" / "root.key").chmod(0o644)
    out = office.directory / "answer"
    assert "chmod 600" in office.refused(2, *_sign(office, _request(office), out))
    assert not out.exists()


def test_device_in_use_is_not_loaded_into(office: Office) -> None:
    bar_a = office.enrol("Bar A", "reader")
    runs = export_starter(load_identity(office.venue / "manager"))
    with exclusive(bar_a), pytest.raises(StoreInUse, match="in use by process"):
        import_starter(load_identity(bar_a), runs)


def test_roles_are_those_the_authority_gave(office: Office) -> None:
    identity = load_identity(office.enrol("Bar A", "reader", "till"))
    assert identity.certificate.roles == frozenset({Role.READER, Role.TILL})


def test_broken_subcommand_does_not_take_the_others_along(office: Office) -> None:
    listed = office.done("--help")
    assert all(name in listed for name in ("venue", "device", "missing", "wrong"))
    assert "no_such_module" in office.refused(2, "missing", "--whatever", "it", "takes")
    assert "is not a command" in office.refused(2, "wrong")
    assert "Riverside" in office.done("venue", "show", "--venue", office.venue)


def test_every_kind_of_error_has_its_exit_code() -> None:
    errors = [LocalError(), PeerError(), StorageError(), TapmeshError()]
    assert [exit_code(error) for error in errors] == [2, 3, 4, 1]


def test_version_is_told() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("tapmesh, version ")


# -- A name whose device is gone ---------------------------------------------------------------------------------------


def _enrol_again(office: Office, name: str) -> tuple[object, ...]:
    return ("venue", "enrol", name, "--role", "reader", "--venue", office.venue, "--device", office.directory / "again")


@pytest.mark.proves("B6")
@pytest.mark.parametrize("how", ["retire", "revoke"])
def test_name_of_a_device_that_is_gone_is_free_for_one_with_other_keys(office: Office, how: str) -> None:
    first = load_identity(office.enrol("Bar A", "reader")).certificate
    assert "frees its name" in office.refused(2, *_enrol_again(office, "Bar A"))
    office.done("venue", how, "Bar A", "--venue", office.venue)
    office.done(*_enrol_again(office, "Bar A"))
    second = load_identity(office.directory / "again").certificate
    assert (second.name, second.roles) == (first.name, first.roles)
    assert not {first.serial, first.log_key, first.link_key} & {second.serial, second.log_key, second.link_key}
    assert "enrolled under that name already" in office.refused(
        2, *_sign(office, _request(office), office.directory / "x")
    )
    shown = office.done("venue", "show", "--venue", office.venue)
    assert f"{first.fingerprint}, {'retired' if how == 'retire' else 'REVOKED by statement 1'}" in shown
    assert f"{second.fingerprint}\n" in shown


@pytest.mark.proves("B6")
def test_name_means_the_device_that_has_it_now_and_a_fingerprint_the_one_that_had_it(office: Office) -> None:
    first = load_identity(office.enrol("Bar A", "reader")).certificate
    assert "Retired:" in office.done("venue", "retire", "Bar A", "--venue", office.venue)
    assert "Was retired already:" in office.done("venue", "retire", "Bar A", "--venue", office.venue)
    office.done(*_enrol_again(office, "Bar A"))
    second = load_identity(office.directory / "again").certificate
    several = office.refused(2, "venue", "revoke", "Bar A", "--cut", "held", "--venue", office.venue)
    assert f"{second.fingerprint}, {first.fingerprint}" in several
    by_digits = first.fingerprint.replace(" ", "")
    told = office.done("venue", "revoke", by_digits, "--cut", "none", "--venue", office.venue)
    assert f"Revoked: 'Bar A' (reader), fingerprint {first.fingerprint}" in told
    told = office.done("venue", "revoke", "Bar A", "--venue", office.venue)
    assert f"Revoked: 'Bar A' (reader), fingerprint {second.fingerprint}" in told


@pytest.mark.proves("B6")
def test_answer_that_is_written_again_is_for_the_device_that_has_the_name_now(office: Office) -> None:
    office.enrol("Bar A", "reader")
    office.done("venue", "retire", "Bar A", "--venue", office.venue)
    request = _request(office)
    office.done(*_sign(office, request, office.directory / "lost.answer"))
    office.done("venue", "answer", "Bar A", "--venue", office.venue, "--out", office.directory / "answer")
    office.done("device", "accept", office.directory / "answer", "--dir", request.parent)


def test_office_does_not_retire_strangers_or_its_own_manager(office: Office) -> None:
    assert "no device called 'Bar Q'" in office.refused(2, "venue", "retire", "Bar Q", "--venue", office.venue)
    assert "own manager" in office.refused(2, "venue", "retire", "manager", "--venue", office.venue)
