"""Key files: private from their first byte, never overwritten, and refused when others could have read them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from nacl.signing import VerifyKey

from mesh.core.kinds import Role
from mesh.core.signing import Domain
from mesh.shell.authority import create_authority
from mesh.shell.files import AlreadyThere, CannotRead, KeyFileExposed, read_file, write_new_file
from mesh.shell.keys import KeysDoNotMatch, NotEnrolled, create_key_file, load_identity, load_signer
from tests.venue import enrol


def test_key_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    create_key_file(tmp_path / "log.key")
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600


def test_signer_signs_with_the_key_that_was_made(tmp_path: Path) -> None:
    made = create_key_file(tmp_path / "log.key")
    loaded = load_signer(tmp_path / "log.key")
    assert loaded.public_key == made.public_key
    seal = loaded.sign(Domain.CARD, b"a sale")
    assert VerifyKey(made.public_key).verify(b"tapmesh/card/1a sale", seal) == b"tapmesh/card/1a sale"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_key_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "log.key"
    create_key_file(path)
    path.chmod(mode)
    with pytest.raises(KeyFileExposed, match="chmod 600"):
        load_signer(path)


def test_key_file_behind_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    create_key_file(tmp_path / "elsewhere.key")
    (tmp_path / "log.key").symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(CannotRead):
        load_signer(tmp_path / "log.key")


def test_second_key_never_replaces_the_first(tmp_path: Path) -> None:
    first = create_key_file(tmp_path / "log.key")
    with pytest.raises(AlreadyThere):
        create_key_file(tmp_path / "log.key")
    assert load_signer(tmp_path / "log.key").public_key == first.public_key
    assert [path.name for path in tmp_path.iterdir()] == ["log.key"]


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_damaged_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    write_new_file(tmp_path / "log.key", content, private=True)
    with pytest.raises(CannotRead, match=r"log\.key"):
        load_signer(tmp_path / "log.key")


def test_private_key_is_not_shown_when_a_signer_is_printed(tmp_path: Path) -> None:
    signer = create_key_file(tmp_path / "log.key")
    assert repr(signer) == f"LogSigner(public_key={signer.public_key.hex()})"


def test_file_longer_than_its_bound_is_not_read(tmp_path: Path) -> None:
    write_new_file(tmp_path / "big", bytes(11))
    with pytest.raises(CannotRead, match="longer than 10"):
        read_file(tmp_path / "big", bytes_max=10, meaning="a small file")


def test_named_pipe_in_place_of_a_file_does_not_hang(tmp_path: Path) -> None:

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotRead, match="not a plain file"):
        read_file(tmp_path / "pipe", bytes_max=10, meaning="a request")


def test_directory_without_a_certificate_says_how_to_enrol(tmp_path: Path) -> None:
    with pytest.raises(NotEnrolled, match="tapmesh device request"):
        load_identity(tmp_path)


def test_keys_of_another_device_are_refused(tmp_path: Path) -> None:
    authority = create_authority(tmp_path / "authority", "Riverside")
    enrol(authority, tmp_path / "a", "Bar A", Role.READER)
    enrol(authority, tmp_path / "b", "Bar B", Role.READER)
    (tmp_path / "b" / "log.key").replace(tmp_path / "a" / "log.key")
    with pytest.raises(KeysDoNotMatch):
        load_identity(tmp_path / "a")


def test_file_for_a_stick_without_hard_links_is_written_whole_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # what Linux says of FAT

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_new_file(tmp_path / "answer", b"first", private=True)
    with pytest.raises(AlreadyThere):
        write_new_file(tmp_path / "answer", b"second", private=True)
    assert (tmp_path / "answer").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["answer"]
