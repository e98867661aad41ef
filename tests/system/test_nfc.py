"""Wristbands in processes of their own, through the real NFC stack: read, written, torn; and where they listen."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mesh.views.card_record import SEALED_BYTES
from reader.chips.image import load_image
from reader.chips.iso_dep import IsoDepChip
from reader.chips.profile import ChipLost, Found, SealKind
from reader.chips.radio import NoReaderDevice, Radio, open_radio
from tests.programs import Program, free_udp_port, run

WRISTBAND = "reader.cli_wristband:wristband"
OLD, NEW = b"\x01" * SEALED_BYTES, bytes(range(1, SEALED_BYTES + 1))
POLLS_MAX = 2000


@pytest.fixture
def port() -> int:
    return free_udp_port()


@pytest.fixture
def radio(port: int) -> Iterator[Radio]:
    with closing(open_radio(f"udp:127.0.0.1:{port}")) as opened:
        yield opened


def wristband(image: Path, port: int, *options: str) -> Program:
    program = Program(WRISTBAND, "run", "--port", str(port), "--image", image, "--no-waiting", "--json", *options)
    program.until("ready")
    return program


def find(radio: Radio) -> IsoDepChip:
    """Activate the wristband that is there; a poll may get lost on a busy machine, as on air."""
    for _ in range(POLLS_MAX):
        found = radio.poll()
        if found is not None:
            chip = radio.activate(found)
            chip.select()
            return chip
    raise AssertionError("no wristband answered")


def addresses_of(port: int) -> set[str]:
    """Where UDP sockets with this local port are bound, in the kernel's own words."""
    rows = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
    local = [row[1].split(":") for row in rows]
    return {address for address, number in local if int(number, 16) == port}


def test_a_wristband_is_read_written_and_read_back(tmp_path: Path, port: int, radio: Radio) -> None:
    with wristband(tmp_path / "band", port):
        chip = find(radio)
        assert (chip.capacity, chip.seal_kind) == (SEALED_BYTES, SealKind.ED25519)
        assert chip.read_slots() == (bytes(SEALED_BYTES), bytes(SEALED_BYTES))
        chip.write_slot(1, NEW)
        assert chip.read_slot(1) == NEW
        assert find(radio).read_slots() == (bytes(SEALED_BYTES), NEW)


def test_a_wristband_remembers_when_it_comes_back_and_is_the_same_chip(tmp_path: Path, port: int, radio: Radio) -> None:
    identities = []
    for _ in range(2):
        with wristband(tmp_path / "band", port):
            chip = find(radio)
            identities.append(chip.select())
            chip.write_slot(0, NEW)
    assert identities[0] == identities[1] and load_image(tmp_path / "band").memory[:SEALED_BYTES] == NEW


@pytest.mark.proves("S1.17")
@pytest.mark.parametrize("count", [0, 1, 16, 42, 105])
def test_a_wristband_pulled_away_in_a_write_holds_exactly_what_was_programmed(
    tmp_path: Path, port: int, radio: Radio, count: int
) -> None:
    with wristband(tmp_path / "band", port):
        find(radio).write_slot(0, OLD)
    with wristband(tmp_path / "band", port, "--tear-after", str(count)) as band:
        chip = find(radio)
        with pytest.raises(ChipLost):
            chip.write_slot(0, NEW)
        assert band.until("torn")["bytes"] == count and band.wait() == 0
    with wristband(tmp_path / "band", port):
        assert find(radio).read_slots() == (NEW[:count] + OLD[count:], bytes(SEALED_BYTES))


def test_a_wristband_killed_while_programming_is_torn_at_a_block(tmp_path: Path, port: int, radio: Radio) -> None:
    with wristband(tmp_path / "band", port, "--block-ms", "500") as band:
        chip = find(radio)
        pulling = threading.Thread(target=_kill_when_programming, args=(band,))
        pulling.start()
        with pytest.raises(ChipLost):
            chip.write_slot(0, NEW)
        pulling.join()
    memory = load_image(tmp_path / "band").memory[:SEALED_BYTES]
    programmed = memory.rstrip(b"\x00")
    assert NEW.startswith(programmed) and len(programmed) % 16 == 0 and len(programmed) < SEALED_BYTES


def _kill_when_programming(band: Program) -> None:
    band.until("programming")
    band.process.kill()


def test_a_slow_chip_asks_for_time_and_gets_it(tmp_path: Path, port: int, radio: Radio) -> None:
    with wristband(tmp_path / "band", port, "--block-ms", "60"):
        chip = find(radio)
        chip.write_slot(0, NEW)
        assert chip.read_slot(0) == NEW


def test_a_chip_that_asks_for_time_for_ever_counts_as_pulled_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stalling:
        """As much of nfcpy's frontend as an activation uses, with a card that answers S(WTX) to everything."""

        max_send_data_size = 256

        def exchange(self, data: bytearray, timeout: float) -> bytearray:
            return bytearray(b"\x05\x78\x80\xa0\x00" if data[0] == 0xE0 else b"\xf2\x3b")

    monkeypatch.setattr("reader.chips.radio.COMMAND_S_MAX", 0.05)
    chip = Radio(Stalling()).activate(Found(b"\x02" * 7, None, 0))
    with pytest.raises(ChipLost):
        chip.select()


def test_a_reader_that_vanished_without_a_word_does_not_hold_the_wristband(tmp_path: Path, port: int) -> None:
    with wristband(tmp_path / "band", port):
        for number in range(3):
            radio = open_radio(f"udp:127.0.0.1:{port}")
            chip = find(radio)
            chip.write_slot(0, bytes([number + 1]) * SEALED_BYTES)
            radio._frontend.device.socket.close()  # no RFOFF is sent: the process is gone
            radio._frontend.device.socket = None
        with closing(open_radio(f"udp:127.0.0.1:{port}")) as last:
            assert find(last).read_slot(0) == b"\x03" * SEALED_BYTES


@pytest.mark.proves("M7")
def test_wristband_and_reader_are_bound_to_this_machine_only(tmp_path: Path, port: int, radio: Radio) -> None:
    with wristband(tmp_path / "band", port):
        find(radio)
        assert addresses_of(port) == {"0100007F"}
        own = radio._frontend.device.socket.getsockname()
        assert own[0] == "127.0.0.1" and addresses_of(own[1]) == {"0100007F"}


def test_a_second_wristband_at_one_port_is_refused_with_its_reason(tmp_path: Path, port: int) -> None:
    with wristband(tmp_path / "band", port):
        refused = run(WRISTBAND, "run", "--port", str(port), "--image", tmp_path / "other")
        assert refused.returncode == 2 and f"port {port} of this machine is taken" in refused.stderr


@pytest.mark.parametrize("path", ["udp:192.0.2.1:54321", "udp:0.0.0.0:54321", "udp:127.0.0.1:0", "udp:127.0.0.1:x"])
def test_emulated_wristbands_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(NoReaderDevice, match=r"udp:127\.0\.0\.1:PORT"):
        open_radio(path)


@pytest.mark.parametrize("path", ["usb:ffff:ffff", "tty:NOSUCH9:pn532", "nonsense"])
def test_without_an_nfc_reader_the_error_says_what_to_do(path: str) -> None:
    with pytest.raises(NoReaderDevice, match="plug it in"):
        open_radio(path)


def test_a_clone_is_the_same_chip_and_a_rollback_shows_an_earlier_seq(tmp_path: Path) -> None:
    band, copy = tmp_path / "band", tmp_path / "copy"
    assert run(WRISTBAND, "new", band, "--serial", "0102030405060708").returncode == 0
    assert run(WRISTBAND, "clone", band, copy).returncode == 0
    assert load_image(band) == load_image(copy)
    shown = json.loads(run(WRISTBAND, "show", band, "--json").stdout)
    assert (shown["serial"], shown["slots"]) == ("0102030405060708", [None, None])
    refused = run(WRISTBAND, "rollback", band, "--to", "7")
    assert refused.returncode == 2 and "never showed seq 7; it can go back to 0" in refused.stderr
    assert run(WRISTBAND, "new", band).returncode == 2


def test_a_file_that_is_no_wristband_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\x80")
    for arguments in (("show", tmp_path / "junk"), ("show", tmp_path / "missing")):
        refused = run(WRISTBAND, *arguments)
        assert refused.returncode == 2 and "wristband" in refused.stderr
