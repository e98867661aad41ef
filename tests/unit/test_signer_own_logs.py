"""What was signed and never stored: its seq is spent, and the device goes on selling in a new log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mesh.core.chain import parse_genesis
from mesh.core.kinds import Kind, Lane, Role
from mesh.errors import LocalError
from mesh.shell.authority import create_authority
from mesh.shell.keys import FileKey, Identity
from mesh.shell.own_logs import OwnLogs
from mesh.shell.signers import LogSigner
from mesh.shell.store import Durability, RunStore
from tests.venue import enrol


class Refused(LocalError):
    """A write beside the entry could not be done."""


class FlakyToken:
    """A key that is gone for as long as it is told."""

    def __init__(self, key: FileKey) -> None:
        self._key = key
        self.gone = False

    @property
    def public_key(self) -> bytes:
        return self._key.public_key

    def sign(self, message: bytes) -> bytes:
        if self.gone:
            raise Refused("the token is gone")
        return self._key.sign(message)


@asynccontextmanager
async def own_logs(identity: Identity) -> AsyncIterator[OwnLogs]:
    store = RunStore(identity.directory / "own.db", Durability.POWER_CUT)
    try:
        yield OwnLogs(identity, store, [])
    finally:
        store.close()


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return enrol(create_authority(tmp_path / "authority", "Riverside"), tmp_path / "bar", "Bar", Role.READER)


def refuse(_store: RunStore) -> None:
    raise Refused("no room beside it")


async def test_entry_that_was_rolled_back_is_never_signed_again_and_a_new_log_goes_on(
    identity: Identity,
) -> None:
    async with own_logs(identity) as logs:
        first = await logs.append(Lane.MONEY, Kind.ABORT, b"kept")
        with pytest.raises(Refused):
            await logs.append(Lane.MONEY, Kind.ABORT, b"rolled back", also=refuse)
        second = await logs.append(Lane.MONEY, Kind.ABORT, b"after it")
        third = await logs.append(Lane.MONEY, Kind.ABORT, b"and on")
        assert second.log_id != first.log_id and (second.seq, third.seq) == (1, 2)
        genesis = parse_genesis(second.run.entries[0], identity.root)
        assert [(head.log_id, head.seq, head.id) for head in genesis.known_heads] == [(first.log_id, 1, first.id)]
        assert {stored.log_id for stored in logs.store.logs()} == {first.log_id, second.log_id}


async def test_rolled_back_beginning_of_a_log_leaves_nothing(identity: Identity) -> None:
    async with own_logs(identity) as logs:
        with pytest.raises(Refused):
            await logs.append(Lane.MONEY, Kind.ABORT, b"rolled back", also=refuse)
        assert logs.store.logs() == []
        appended = await logs.append(Lane.MONEY, Kind.ABORT, b"kept")
        assert (appended.seq, len(logs.store.logs())) == (1, 1)


async def test_device_whose_key_was_away_for_a_moment_goes_on_in_a_new_log(identity: Identity) -> None:
    token = FlakyToken(FileKey(bytes(32)))
    async with own_logs(replace(identity, signer=LogSigner(token))) as logs:
        first = await logs.append(Lane.MONEY, Kind.ABORT, b"kept")
        token.gone = True
        for _ in range(2):
            with pytest.raises(Refused):
                await logs.append(Lane.MONEY, Kind.ABORT, b"refused")
        token.gone = False
        second = await logs.append(Lane.MONEY, Kind.ABORT, b"kept too")
        assert second.log_id != first.log_id and second.seq == 1
