"""A device whose log key is in a token (SoftHSM): made there, used by every program, and never anywhere else."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from mesh.core.certificate import parse_device_certificate, parse_venue_root
from mesh.core.entry import verify_signature
from mesh.shell.keys import read_certificate
from mesh.shell.pkcs11_uri import parse_token_uri
from tests.programs import TREE, Line, Program, free_udp_port, run

VENUE, DEVICE, LOG = "mesh.cli_venue:venue", "mesh.cli_device:device", "mesh.cli_log:log"
JOIN = "mesh.cli_join:join"
READER, WRISTBAND = "reader.cli:reader", "reader.cli_wristband:wristband"
LIBRARIES: Final = ("softhsm/libsofthsm2.so", "*/softhsm/libsofthsm2.so", "*/libsofthsm2.so", "pkcs11/libsofthsm2.so")
PIN: Final = "493817"
LABEL: Final = "bar-a"


class Hsm:
    """A SoftHSM of this test alone, with one token, and the PIN in a file."""

    def __init__(self, directory: Path, utility: str, library: Path) -> None:
        self.directory, self.utility, self.library = directory, utility, library
        self.tokens, self.pin_file = directory / "tokens", directory / "pin"
        self.tokens.mkdir(parents=True)
        self.configure()
        self.set_pin(PIN)
        arguments = ("--init-token", "--free", "--label", LABEL, "--so-pin", "00000000", "--pin", PIN)
        subprocess.run([utility, *arguments], check=True, capture_output=True)

    def configure(self, *lines: str) -> None:
        settings = [f"directories.tokendir = {self.tokens}", "objectstore.backend = file", "log.level = ERROR", *lines]
        (self.directory / "softhsm2.conf").write_text("\n".join(settings), encoding="utf-8")

    def set_pin(self, pin: str) -> None:
        self.pin_file.write_text(f"{pin}\n", encoding="utf-8")
        self.pin_file.chmod(0o600)

    @property
    def uri(self) -> str:
        return f"pkcs11:token={LABEL}?module-path={self.library}&pin-source={self.pin_file}"

    def take_out(self) -> None:
        self.tokens.rename(self.directory / "in somebody's pocket")

    def put_back(self) -> None:
        (self.directory / "in somebody's pocket").rename(self.tokens)


@pytest.fixture
def hsm(tmp_path: Path, require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Hsm:
    utility = require_program("softhsm2-util")
    library = next(path for pattern in LIBRARIES for path in sorted(Path("/usr/lib").glob(pattern)))
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "hsm" / "softhsm2.conf"))
    monkeypatch.delenv("TAPMESH_PKCS11_PIN", raising=False)
    return Hsm(tmp_path / "hsm", utility, library)


class Office:
    """A venue that enrols one device by its token, once; tests get copies of both, as they were then."""

    def __init__(self, directory: Path) -> None:
        self.event, self._enrolled = directory / "event", directory / "enrolled"
        options = ("--name", "Test", "--zone", "north", "--per-tap-cap", "50")
        must(VENUE, "init", self.event, *options)

    def enrol(self, directory: Path, name: str, hsm: Hsm) -> None:
        answer, roles = directory.with_name("answer"), ("--role", "reader", "--role", "till")
        must(DEVICE, "request", "--dir", directory, "--name", name, "--signer", hsm.uri)
        request = directory / "request.cbor"
        must(VENUE, "enrol", name, *roles, "--venue", self.event, "--request", request, "--out", answer)
        must(DEVICE, "accept", answer, "--dir", directory)

    def copy(self, directory: Path, hsm: Hsm) -> None:
        """Put the enrolled device into `directory` and its token into `hsm`."""
        if not self._enrolled.exists():
            self.enrol(directory, "Bar A", hsm)
            self._enrolled.mkdir()
            shutil.copytree(directory, self._enrolled / "bar")
            shutil.copytree(hsm.tokens, self._enrolled / "tokens")
            return
        shutil.copytree(self._enrolled / "bar", directory)
        shutil.rmtree(hsm.tokens)
        shutil.copytree(self._enrolled / "tokens", hsm.tokens)
        address = directory / "log.pkcs11"
        uri = parse_token_uri(address.read_text(encoding="utf-8").strip())
        address.write_text(f"{replace(uri, pin_source=hsm.pin_file)}\n", encoding="utf-8")


def must(command: str, *arguments: str | Path) -> str:
    done = run(command, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


class Bar:
    """One device enrolled by its token, and the programs that ran on it."""

    def __init__(self, directory: Path, hsm: Hsm) -> None:
        self.directory, self.hsm, self.port = directory, hsm, free_udp_port()
        self.band = directory.with_name("band")
        self.running: list[Program] = []

    def reader(self) -> Program:
        device = f"udp:127.0.0.1:{self.port}"
        alone = ("--no-mdns", "--listen", "127.0.0.1:0", "--json")
        program = Program(READER, "run", "--dir", self.directory, "--device", device, *alone)
        self.running.append(program)
        program.until("ready")
        return program

    def wristband(self) -> Program:
        program = Program(WRISTBAND, "run", "--port", str(self.port), "--image", self.band, "--json")
        self.running.append(program)
        program.until("ready")
        return program

    def show(self) -> subprocess.CompletedProcess[str]:
        """The smallest command that needs the whole device."""
        return run(DEVICE, "show", "--dir", self.directory)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """A program of its own: a PKCS #11 library reads its settings once in a process."""
        return subprocess.run(
            [sys.executable, "-c", code, str(self.directory)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(TREE)},
        )


@pytest.fixture
def bar(tmp_path: Path, office: Office, hsm: Hsm) -> Iterator[Bar]:
    office.copy(tmp_path / "bar", hsm)
    made = Bar(tmp_path / "bar", hsm)
    yield made
    for program in made.running:
        program.kill()


def outcome(reader: Program) -> Line:
    return reader.until("green", "red")


# -- It works ----------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.3", "S1.11")
def test_reader_sells_with_a_key_that_is_in_a_token_alone(bar: Bar) -> None:
    assert not (bar.directory / "log.key").exists()
    reader = bar.reader()
    reader.type("topup 20.00")
    bar.wristband()
    assert outcome(reader)["balance_minor"] == 2000
    reader.type("sale 6.50")
    assert (outcome(reader)["event"], reader.seen[-1]["balance_minor"]) == ("green", 1350)
    reader.type("quit")
    assert reader.wait() == 0

    root = parse_venue_root(read_certificate(bar.directory / "root.pem", "root"))
    certificate = parse_device_certificate(read_certificate(bar.directory / "device.pem", "device"), root)
    listed = run(LOG, "ls", "--dir", bar.directory, "--json").stdout.splitlines()
    own = [log for log in map(json.loads, listed) if log["device"] == certificate.name]
    entries = [
        bytes.fromhex(line)
        for log in own
        for line in run(LOG, "show", log["log"], "--dir", bar.directory, "--raw").stdout.splitlines()
    ]
    assert len(entries) == 3, "a genesis and two taps"
    for entry in entries:
        verify_signature(entry, certificate.log_key)


def test_address_of_the_key_is_private_and_names_it_without_its_pin(bar: Bar) -> None:
    path = bar.directory / "log.pkcs11"
    uri = parse_token_uri(path.read_text(encoding="utf-8").strip())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (uri.token, uri.pin_source) == (LABEL, bar.hsm.pin_file) and uri.serial and uri.id
    everything = b"".join(file.read_bytes() for file in bar.directory.rglob("*") if file.is_file())
    assert PIN.encode() not in everything


READ_KEY: Final = """
import sys
from pathlib import Path
import pkcs11
from pkcs11 import Attribute, ObjectClass
from mesh.shell.pkcs11_uri import parse_token_uri
uri = parse_token_uri((Path(sys.argv[1]) / "log.pkcs11").read_text().strip())
token = pkcs11.lib(str(uri.module)).get_token(token_label=uri.token)
session = token.open(rw=True, user_pin=uri.pin_source.read_text().strip())
(key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: uri.id})
print([key[a] for a in (Attribute.LOCAL, Attribute.NEVER_EXTRACTABLE, Attribute.ALWAYS_SENSITIVE)])
for attempt in (lambda: key[Attribute.VALUE], lambda: key.copy({Attribute.EXTRACTABLE: True})):
    try:
        attempt()
        print("it came out")
    except pkcs11.PKCS11Error as error:
        print(type(error).__name__)
"""


@pytest.mark.proves("S1.3")
def test_key_was_made_in_the_token_and_does_not_come_out_with_the_right_pin_either(bar: Bar) -> None:
    read = bar.python(READ_KEY)
    assert read.stdout.splitlines()[0] == "[True, True, True]", read.stderr
    assert "it came out" not in read.stdout and len(read.stdout.splitlines()) == 3


SIGN_AT_ONCE: Final = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from nacl.signing import VerifyKey
from mesh.core.signing import Domain
from mesh.shell.keys import load_log_signer
signer, again = load_log_signer(Path(sys.argv[1])), load_log_signer(Path(sys.argv[1]))
def seal(number):
    message = number.to_bytes(2, "big")
    return message, (signer if number % 2 else again).sign(Domain.CARD, message)
with ThreadPoolExecutor(8) as pool:
    for message, signature in pool.map(seal, range(200)):
        VerifyKey(signer.public_key).verify(Domain.CARD.value + message, signature)
print("200 good")
"""


def test_threads_and_several_signers_of_one_process_share_the_token(bar: Bar) -> None:
    signed = bar.python(SIGN_AT_ONCE)
    assert signed.stdout == "200 good\n", signed.stderr


def test_device_with_its_key_in_a_token_joins_by_code(office: Office, hsm: Hsm, tmp_path: Path) -> None:
    directory, here = tmp_path / "bar", ("--interface", "127.0.0.1")
    (tmp_path / "readers.csv").write_text("name,roles,zone\nBar J,reader,north\n", encoding="utf-8")
    listed = must(VENUE, "enrol", "--from", tmp_path / "readers.csv", "--venue", office.event)
    (code,) = re.findall(r"^((?:\w{5}-){4}\w{5})  Bar J", listed, re.MULTILINE)
    must(DEVICE, "request", "--dir", directory, "--name", "Bar J", "--signer", hsm.uri)
    options = ("--listen", "127.0.0.1:0", *here, "--json", "--until-all-joined")
    with Program(VENUE, "welcome", "--venue", office.event, *options) as welcoming:
        welcoming.until("ready")
        must("mesh.cli_join:join", code, "--dir", directory, *here)
        assert welcoming.wait() == 0
    must(DEVICE, "show", "--dir", directory)
    assert not (directory / "log.key").exists()


# -- It does not, and says so ------------------------------------------------------------------------------------------


@pytest.mark.proves("S1.3")
def test_tap_is_refused_before_the_card_is_written_when_the_token_is_gone(bar: Bar) -> None:
    reader = bar.reader()
    reader.type("topup 20.00")
    band = bar.wristband()
    assert outcome(reader)["balance_minor"] == 2000
    bar.hsm.take_out()
    before = bar.band.read_bytes()
    reader.type("sale 6.50")
    assert reader.wait() == 2, "the operator is told, and the program ends"
    assert reader.process.stderr is not None
    said = " ".join(reader.process.stderr.read().split())
    assert f"token '{LABEL}'" in said and "Nothing was signed" in said and "start the program again" in said
    band.kill()
    assert bar.band.read_bytes() == before

    bar.hsm.put_back()
    reader = bar.reader()
    bar.wristband()
    reader.type("sale 6.50")
    assert outcome(reader)["balance_minor"] == 1350


def test_device_without_its_token_does_not_start(bar: Bar) -> None:
    bar.hsm.take_out()
    refused = bar.show()
    assert refused.returncode == 2 and "Nothing was signed" in " ".join(refused.stderr.split())


def test_wrong_pin_is_named_and_not_repeated(bar: Bar) -> None:
    bar.hsm.set_pin("555555")
    refused = bar.show()
    assert refused.returncode == 2 and "refuses the PIN" in " ".join(refused.stderr.split())
    assert "555555" not in refused.stderr + refused.stdout
    bar.hsm.set_pin(PIN)
    assert bar.show().returncode == 0


def test_pin_that_others_can_read_is_not_used(bar: Bar) -> None:
    bar.hsm.pin_file.chmod(0o644)
    refused = bar.show()
    assert refused.returncode == 2 and "chmod 600" in refused.stderr


def test_pin_comes_from_the_environment_where_no_file_is_named(bar: Bar, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bar.directory / "log.pkcs11"
    path.write_text(path.read_text(encoding="utf-8").split("&pin-source")[0], encoding="utf-8")
    missing = bar.show()
    assert missing.returncode == 2 and "TAPMESH_PKCS11_PIN" in missing.stderr
    monkeypatch.setenv("TAPMESH_PKCS11_PIN", PIN)
    assert bar.show().returncode == 0


DELETE_KEY: Final = READ_KEY.split("print")[0] + "key.destroy()"


def test_key_that_was_deleted_from_the_token_is_missed(bar: Bar) -> None:
    deleted = bar.python(DELETE_KEY)
    assert deleted.returncode == 0, deleted.stderr
    refused = bar.show()
    assert refused.returncode == 2 and "holds 0 Ed25519 private keys" in " ".join(refused.stderr.split())


def test_key_of_another_device_in_the_same_token_is_not_taken_for_ours(bar: Bar, tmp_path: Path) -> None:
    must(DEVICE, "request", "--dir", tmp_path / "other", "--name", "Bar B", "--signer", bar.hsm.uri)
    (tmp_path / "other" / "log.pkcs11").replace(bar.directory / "log.pkcs11")
    refused = bar.show()
    assert refused.returncode == 2 and "not the ones its certificate binds" in " ".join(refused.stderr.split())


@pytest.mark.parametrize("left", ["CKM_EDDSA", "CKM_EC_EDWARDS_KEY_PAIR_GEN"])
def test_token_without_ed25519_is_refused_before_anything_is_made(hsm: Hsm, tmp_path: Path, left: str) -> None:
    """The controlled failure: SoftHSM can be built, or told as here, to do without."""
    hsm.configure(f"slots.mechanisms = CKM_RSA_PKCS,{left}")
    refused = run(DEVICE, "request", "--dir", tmp_path / "bar", "--name", "Bar", "--signer", hsm.uri)
    assert refused.returncode == 2 and "cannot make Ed25519" in refused.stderr
    assert not (tmp_path / "bar").exists()


@pytest.mark.parametrize(
    ("addition", "complaint"),
    [(";id=%01", "a device makes a new one"), (";token=bar-b", "says token twice"), ("&pin-value=493817", "pin-value")],
)
def test_request_for_a_key_that_cannot_be_is_refused_before_anything_is_made(
    hsm: Hsm, tmp_path: Path, addition: str, complaint: str
) -> None:
    path, query = hsm.uri.split("?")
    uri = f"{path}?{query}{addition}" if addition.startswith("&") else f"{path}{addition}?{query}"
    refused = run(DEVICE, "request", "--dir", tmp_path / "bar", "--name", "Bar", "--signer", uri)
    assert refused.returncode == 2 and complaint in " ".join(refused.stderr.split())
    assert PIN not in refused.stderr and not (tmp_path / "bar").exists()


def test_device_that_joins_by_code_makes_its_key_in_the_token(tmp_path: Path, hsm: Hsm) -> None:
    event, device, plain = tmp_path / "event", tmp_path / "bar", tmp_path / "plain"
    must(VENUE, "init", event, "--name", "Test", "--zone", "north", "--per-tap-cap", "50")
    (tmp_path / "readers.csv").write_text("name,roles,zone\nBar A,reader,north\nBar B,reader,north\n", encoding="utf-8")
    said = must(VENUE, "enrol", "--from", tmp_path / "readers.csv", "--venue", event)
    codes = [line.split()[0] for line in said.splitlines() if line[5:6] == "-"]
    welcome = Program(VENUE, "welcome", "--venue", event, "--listen", "127.0.0.1:0", "--no-mdns", "--json")
    try:
        at = f"127.0.0.1:{welcome.until('ready')['port']}"
        must(JOIN, codes[0], "--dir", device, "--at", at, "--signer", hsm.uri)
        must(JOIN, codes[1], "--dir", plain, "--at", at)
        refused = run(JOIN, codes[1], "--dir", plain, "--at", at, "--signer", hsm.uri)
    finally:
        welcome.kill()
    assert (device / "log.pkcs11").exists()
    assert not (device / "log.key").exists()
    assert "Bar A" in must(DEVICE, "show", "--dir", device)
    assert refused.returncode != 0
    assert "a key does not move into a token" in refused.stderr.replace("\n", " ")
    hsm.take_out()
    assert run(DEVICE, "show", "--dir", device).returncode != 0
