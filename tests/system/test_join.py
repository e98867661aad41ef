"""Forty readers on a Thursday: joining by code, interrupted anywhere, and as real processes that find each other."""

from __future__ import annotations

import json
import re
import stat
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path

import pytest
import trio

from mesh.core.join import JoinRefused
from mesh.core.join_code import parse_code
from mesh.errors import PeerError
from mesh.shell.device import open_device
from mesh.shell.join_device import NoOffice, OtherDevice
from mesh.shell.keys import load_identity
from mesh.shell.lock import exclusive
from mesh.shell.network import Endpoint
from mesh.shell.revoke import retire
from mesh.shell.store import REPLICA_FILE
from tests.joining import LOOPBACK, PATIENCE_S, make_event, open_for_joining, wire_to
from tests.programs import Program, run

VENUE = "mesh.cli_venue:venue"
JOIN = "mesh.cli_join:join"
LIST = "name,roles,zone\nBar A,reader,north\nBar B,reader till,south\nPhone,courier,\n"
CUT_STEP_BYTES = 97


def _made(*arguments: str | Path) -> str:
    done = run(VENUE, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def event(tmp_path: Path) -> Path:
    zones = ("--zone", "north", "--zone", "south")
    _made("init", tmp_path / "event", "--name", "Riverside & <b>sons", *zones, "--per-tap-cap", "50")
    (tmp_path / "readers.csv").write_text(LIST, encoding="utf-8")
    return tmp_path / "event"


def _codes(event: Path, *options: str | Path) -> dict[str, str]:
    """Codes by the name that they are for, as printed."""
    text = _made("enrol", "--from", event.parent / "readers.csv", "--venue", event, *options)
    return {name: code for code, name in re.findall(r"^((?:\w{5}-){4}\w{5})  (.+?) \(", text, re.MULTILINE)}


async def _held(directory: Path) -> tuple[bool, set[str]]:
    async with open_device(directory) as device:
        return device.venue.document() is not None, {certificate.name for certificate in device.devices.all()}


@pytest.mark.proves("M1", "S2.6")
def test_devices_join_by_code_without_knowing_where_the_office_is_and_are_ready_to_run(
    event: Path, tmp_path: Path
) -> None:
    codes = _codes(event)
    here = ("--interface", LOOPBACK)
    options = ("--listen", f"{LOOPBACK}:0", *here, "--json", "--until-all-joined")
    with Program(VENUE, "welcome", "--venue", event, *options) as office:
        assert sorted(office.until("ready")["waiting"]) == ["Bar A", "Bar B", "Phone"]
        for name, code in codes.items():
            done = run(JOIN, code.lower(), "--dir", tmp_path / name, *here)
            assert done.returncode == 0, done.stderr
            joined = office.until("joined")
            assert joined["name"] == name
            assert joined["fingerprint"] in done.stdout
        assert office.wait() == 0
    assert trio.run(_held, tmp_path / "Phone") == (True, {"manager", "Bar A", "Bar B", "Phone"})
    assert trio.run(_held, tmp_path / "Bar A") == (True, {"manager", "Bar A"})
    with ExitStack() as stack:
        bars = [
            stack.enter_context(Program("mesh.cli:main", "node", "run", "--dir", tmp_path / name, "--json", *here))
            for name in ("Bar A", "Bar B")
        ]
        assert [bar.until("ready")["zone"] for bar in bars] == ["north", "south"]


def test_page_of_codes_is_private_whole_and_says_what_the_terminal_says(event: Path, tmp_path: Path) -> None:
    page = tmp_path / "codes.html"
    codes = _codes(event, "--page", page)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    html = page.read_text(encoding="utf-8")
    found: list[str] = []
    drawn: list[str] = []

    class Cards(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            drawn.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}, "the page needs nothing from elsewhere"

        def handle_data(self, data: str) -> None:
            found.append(data)

    Cards().feed(html)
    text = "".join(found)
    assert all(name in text and code in text for name, code in codes.items())
    assert drawn.count("svg") == 3
    assert "b" in drawn and "<b>sons" in text, "a venue's name is text, never markup"
    again = run(VENUE, "enrol", "--from", tmp_path / "readers.csv", "--venue", event, "--page", page)
    assert again.returncode == 2
    assert "is there already" in again.stderr


def test_second_list_makes_codes_only_for_whom_it_adds(event: Path, tmp_path: Path) -> None:
    first = _codes(event)
    (tmp_path / "readers.csv").write_text(LIST + "Bar C,reader,south\n", encoding="utf-8")
    assert set(_codes(event)) == {"Bar C"}
    replaced = _codes(event, "--new-codes")
    assert set(replaced) == {"Bar A", "Bar B", "Phone", "Bar C"}
    assert not set(first.values()) & set(replaced.values())


def test_code_is_kept_nowhere_but_on_its_paper(event: Path) -> None:
    codes = [parse_code(code) for code in _codes(event).values()]
    for path in event.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(code.secret in data or str(code).encode() in data for code in codes), path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name,roles\nBar A,reader\nBar A,reader\n", "could be confused"),
        (b"name;roles;zone\nBar A;raeder;north\n", "did you mean 'reader'?"),
        (b"\xef\xbb\xbfname,roles,zone\nBar A,reader,weast\n", "not in the venue document"),
        (b"name,roles\nCaf\xe9,reader\n", "UTF-8"),
    ],
)
def test_list_with_a_mistake_makes_no_code_at_all(event: Path, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "readers.csv").write_bytes(content)
    done = run(VENUE, "enrol", "--from", tmp_path / "readers.csv", "--venue", event, "--page", tmp_path / "codes.html")
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "codes.html").exists()
    assert not (event / "authority" / "sheets").exists()


def test_withdrawn_code_is_shown_and_is_good_no_more(event: Path, tmp_path: Path) -> None:
    code = _codes(event)["Bar A"]
    assert "withdrawn      Bar A" in _made("codes", "--venue", event, "--withdraw", "Bar A")
    here = ("--listen", f"{LOOPBACK}:0", "--no-mdns", "--json")
    with Program(VENUE, "welcome", "--venue", event, *here) as office:
        ready = office.until("ready")
        assert "Bar A" not in ready["waiting"]
        done = run(JOIN, code, "--dir", tmp_path / "a", "--at", f"{LOOPBACK}:{ready['port']}")
    assert done.returncode == 3
    assert "not on any sheet" in " ".join(done.stderr.split())
    again = run(VENUE, "codes", "--venue", event, "--withdraw", "Bar A")
    assert again.returncode == 2


def test_mistyped_code_sends_nothing(tmp_path: Path) -> None:
    done = run(JOIN, "6APD5-JFDCC-90NR6-D7GJ1-358BM", "--dir", tmp_path / "a", "--at", f"{LOOPBACK}:9")
    assert done.returncode == 2
    assert "type the code again" in " ".join(done.stderr.split())


def test_office_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    code = "6APD5-JFDCC-90NR6-D7GJ1-358BN"
    done = run(JOIN, code, "--dir", tmp_path / "a", "--at", f"{LOOPBACK}:9")
    assert done.returncode == 2
    assert "venue welcome" in " ".join(done.stderr.split())
    assert not (tmp_path / "a").exists()


def test_killed_office_forgets_no_code_and_signs_nothing_twice(event: Path, tmp_path: Path) -> None:
    codes = _codes(event)
    here = ("--listen", f"{LOOPBACK}:0", "--no-mdns", "--json")
    for name, code in codes.items():
        with Program(VENUE, "welcome", "--venue", event, *here) as office:
            at = f"{LOOPBACK}:{office.until('ready')['port']}"
            assert run(JOIN, code, "--dir", tmp_path / name, "--at", at).returncode == 0
            office.kill()
    issued = json.dumps(sorted(path.name for path in (event / "authority" / "issued").iterdir()))
    with Program(VENUE, "welcome", "--venue", event, *here) as office:
        ready = office.until("ready")
        assert ready["waiting"] == []
        for name, code in codes.items():
            at = f"{LOOPBACK}:{ready['port']}"
            assert run(JOIN, code, "--dir", tmp_path / name, "--at", at).returncode == 0
            assert office.until("answered_again")["name"] == name
    assert json.dumps(sorted(path.name for path in (event / "authority" / "issued").iterdir())) == issued
    assert len(json.loads(issued)) == 4


# -- Interrupted anywhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_connection_cut_after_any_bytes_is_made_good_by_the_same_command(tmp_path: Path, direction: str) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("whole")
        async with wire_to(office.at) as wire:
            await office.join(code, tmp_path / "whole", at=wire.at)
            length = len(wire.up if direction == "up" else wire.down)
        assert length > 500
        cuts = range(0, length, length // 12)
        names = [f"Bar {cut}" for cut in cuts]
        for cut, name, code in zip(cuts, names, office.invite(*names), strict=True):
            limits = {"up_max": cut} if direction == "up" else {"down_max": cut}
            async with wire_to(office.at, **limits) as wire:
                with pytest.raises(PeerError):
                    await office.join(code, tmp_path / name, at=wire.at)
            joined = await office.join(code, tmp_path / name)
            assert joined.certificate.name == name
            assert load_identity(tmp_path / name).certificate == joined.certificate
        assert sorted(office.certificates()) == sorted([*names, "whole", "manager"])
    held, known = await _held(tmp_path / names[-1])
    assert held
    assert known == {*names, "whole", "manager"}


async def test_office_interrupted_between_certificate_and_answer_answers_the_same_device(tmp_path: Path) -> None:
    """The manager's device being in use stops the office exactly there: signed, registered, not answered."""
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        with exclusive(office.venue / "manager"), pytest.raises(JoinRefused, match="in use"):
            await office.join(code, tmp_path / "bar-a")
        assert set(office.certificates()) == {"manager", "Bar A"}
        with pytest.raises(JoinRefused, match="was used already"):
            await office.join(code, tmp_path / "another")
        await office.join(code, tmp_path / "bar-a")
        assert len(office.certificates()) == 2
    assert "Bar A" in (await _held(tmp_path / "bar-a"))[1]


@pytest.mark.proves("B6", "M7")
async def test_paper_of_a_retired_device_is_void_and_its_name_joins_again_with_a_new_one(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (old,) = office.invite("Bar A")
        first = await office.join(old, tmp_path / "bar-a")
        assert retire(office.venue, "Bar A")[1]
        with pytest.raises(JoinRefused, match="not on any sheet, or a newer one replaced it"):
            await office.join(old, tmp_path / "finder")
        (new,) = office.invite("Bar A")
        assert not retire(office.venue, "Bar A")[1], "the open code stays good"
        with pytest.raises(JoinRefused, match="not on any sheet"):
            await office.join(old, tmp_path / "finder")
        again = await office.join(new, tmp_path / "bar-a-again")
        assert again.certificate.name == first.certificate.name
        assert again.certificate.serial != first.certificate.serial
        assert office.certificates().count("Bar A") == 2


@pytest.mark.parametrize(
    "lost", [("device.pem", REPLICA_FILE), ("device.pem", "root.pem", REPLICA_FILE), (REPLICA_FILE,)]
)
async def test_device_interrupted_between_its_files_is_made_whole_by_the_same_command(
    tmp_path: Path, lost: tuple[str, ...]
) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        first = await office.join(code, tmp_path / "bar-a")
        for name in (*lost, "device.toml"):
            (tmp_path / "bar-a" / name).unlink()
        again = await office.join(code, tmp_path / "bar-a")
    assert again == first
    assert (tmp_path / "bar-a" / "device.toml").read_text(encoding="utf-8").endswith('zone = "north"\n')
    assert (await _held(tmp_path / "bar-a"))[0]


async def test_device_interrupted_while_it_made_its_keys_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        (tmp_path / ".bar-a.0123456789abcdef.partial").mkdir()
        await office.join(code, tmp_path / "bar-a")
    assert load_identity(tmp_path / "bar-a").certificate.name == "Bar A"


async def test_settings_that_somebody_wrote_are_kept(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        await office.join(code, tmp_path / "bar-a")
        (tmp_path / "bar-a" / "device.toml").write_text('zone = "south"\n', encoding="utf-8")
        await office.join(code, tmp_path / "bar-a")
    assert (tmp_path / "bar-a" / "device.toml").read_text(encoding="utf-8") == 'zone = "south"\n'


async def test_code_typed_into_the_wrong_device_is_still_good(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        of_a, of_b = office.invite("Bar A", "Bar B")
        await office.join(of_a, tmp_path / "bar-a")
        with pytest.raises(OtherDevice, match="still good"):
            await office.join(of_b, tmp_path / "bar-a")
        await office.join(of_b, tmp_path / "bar-b")
        assert len(office.certificates()) == 3


async def test_two_devices_with_one_code_at_one_moment_get_one_certificate(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        outcomes: list[bool] = []

        async def attempt(name: str) -> None:
            try:
                await office.join(code, tmp_path / name)
                outcomes.append(True)
            except JoinRefused:
                outcomes.append(False)

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for name in ("one", "two", "three"):
                    nursery.start_soon(attempt, name)
        assert sorted(outcomes) == [False, False, True]
        assert len(office.certificates()) == 2


async def test_nobody_at_the_address_is_no_fault_of_the_code(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        with pytest.raises(NoOffice):
            await office.join(code, tmp_path / "bar-a", at=Endpoint(LOOPBACK, 9))
        await office.join(code, tmp_path / "bar-a")


def test_keys_are_made_on_the_device_and_never_leave_it(event: Path, tmp_path: Path) -> None:
    codes = _codes(event)
    with Program(VENUE, "welcome", "--venue", event, "--listen", f"{LOOPBACK}:0", "--no-mdns", "--json") as office:
        at = f"{LOOPBACK}:{office.until('ready')['port']}"
        assert run(JOIN, codes["Bar A"], "--dir", tmp_path / "a", "--at", at).returncode == 0
    keys = [(tmp_path / "a" / name).read_bytes() for name in ("link.key", "log.key")]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert all(stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == 0o600 for name in ("link.key", "log.key"))
    for path in event.rglob("*"):
        assert not path.is_file() or all(key not in path.read_bytes() for key in keys)
