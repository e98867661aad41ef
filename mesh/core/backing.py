"""Whose entries are on whose disk for good: what a holder may say, and what an author may count on.

A copy counts as backing for someone else's money only after its holder's fsync. So a holder tells the author of a log,
and nobody else, up to where its copy survives a power cut (`Kept`); the author remembers it in memory only, and begins
with nothing after a start: what nobody has said again is taken to be on one device.

* A holder speaks for a log of which it holds one chain and which is not contested. Whoever forks a log makes its
  copies say nothing: a seq would not tell which branch is kept.
* Two that hold the same when they meet need no list: an empty one says that all of the author's entries which both
  hellos cover are kept.
* An author passes over what it cannot have meant: a log that is not its own, a seq that it never wrote. A device that
  lost its newest entries hears of them from honest holders.
* A copy of a device that was revoked backs nothing. From where an own log is contested on, nothing is backed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from mesh.core.certificate import DeviceCertificate
from mesh.core.events import Send
from mesh.core.frontier import Frontier
from mesh.core.intake import OWN_BRANCH
from mesh.core.messages import Kept, encode_message
from mesh.core.revocation import Revocations
from mesh.limits import KEPT_HOLDERS_MAX, KEPT_LOGS_PER_FRAME_MAX

Heights: TypeAlias = "tuple[tuple[bytes, int], ...]"
"""Log ids, each with a seq: everything of the log from its genesis up to there."""


@dataclass(frozen=True, slots=True)
class OwnLog:
    """One log of this device's own, and how far others keep it; -1 where nobody is known to keep anything."""

    log_id: bytes
    head_seq: int
    kept_by_one: int
    kept_by_two: int
    holders: tuple[DeviceCertificate, ...]
    """Those that keep something of it, whoever keeps most first."""


@dataclass(slots=True)
class _Hello:
    """What this device's hello on a link covered; whether the peer's covered the same."""

    digest: bytes
    own_heads: dict[bytes, int]
    is_shared: bool = False


class Backing:
    """Both sides for one node. `own` are its own logs; all three arguments are watched, not copied."""

    def __init__(self, frontier: Frontier, own: AbstractSet[bytes], contested_from: Mapping[bytes, int]) -> None:
        self._frontier = frontier
        self._own = own
        self._contested_from = contested_from
        self._durable: dict[bytes, dict[bytes, int]] = {}
        """By the author's log key: its logs, and up to where each is durable here."""
        self._kept: dict[bytes, dict[int, int]] = {}
        """By own log: up to where each holder keeps it, by serial number."""
        self._holders: dict[int, DeviceCertificate] = {}
        self._hellos: dict[int, _Hello] = {}

    # -- What this device keeps of others ----------------------------------------------------------------------------

    def stored(self, heights: Heights, links: Mapping[int, DeviceCertificate]) -> list[Send]:
        """These heights are durable here: what to tell those of their authors that are linked."""
        news: dict[bytes, dict[bytes, int]] = {}
        for log_id, seq in heights:
            author = self._frontier.logs[log_id].genesis.certificate.log_key
            logs = self._durable.setdefault(author, {})
            if seq > logs.get(log_id, -1):
                logs[log_id] = news.setdefault(author, {})[log_id] = seq
        return [said for link, peer in links.items() for said in self._said(link, news.get(peer.log_key, {}))]

    def link_up(self, link: int, digest: bytes) -> None:
        """A hello with this digest goes out on a new link; it says nothing of logs that are set aside."""
        own = self._own - self._frontier.aside
        self._hellos[link] = _Hello(digest, {log_id: self._own_head(log_id) for log_id in own})

    def link_down(self, link: int) -> None:
        self._hellos.pop(link, None)

    def met(self, link: int, peer: DeviceCertificate, digest: bytes) -> list[Send]:
        """A peer begins to listen: it may have started anew, and know of nothing that is kept here.

        So may this device, from a peer that lost its disk since: what it said on an earlier link counts no more.
        """
        for holders in self._kept.values():
            holders.pop(peer.serial, None)
        hello = self._hellos[link]
        hello.is_shared = hello.digest == digest
        kept = self._durable.get(peer.log_key, {})
        if hello.is_shared and kept and self._is_all(kept, peer):
            return [Send(link, encode_message(Kept(())))]
        return self._said(link, kept)

    def _is_all(self, kept: Mapping[bytes, int], peer: DeviceCertificate) -> bool:
        """Whether everything that is held of a peer's logs is kept, and each of them is one chain."""
        held = [log for log in self._frontier.logs.values() if log.genesis.certificate.log_key == peer.log_key]
        return all(kept.get(log.log_id) == log.height and self._is_one_chain(log.log_id) for log in held)

    def _said(self, link: int, heights: Mapping[bytes, int]) -> list[Send]:
        logs = [(log_id, seq) for log_id, seq in heights.items() if self._is_one_chain(log_id)]
        parts = [logs[at : at + KEPT_LOGS_PER_FRAME_MAX] for at in range(0, len(logs), KEPT_LOGS_PER_FRAME_MAX)]
        return [Send(link, encode_message(Kept(tuple(part)))) for part in parts]

    def _is_one_chain(self, log_id: bytes) -> bool:
        attached = sum(1 for _ in self._frontier.logs[log_id].attached())
        return attached == 1 and log_id not in self._contested_from

    # -- What others keep of this device -----------------------------------------------------------------------------

    def heard(self, link: int, kept: Kept, peer: DeviceCertificate) -> None:
        """A peer says what it keeps of this device's own logs."""
        hello = self._hellos[link]
        everything = hello.own_heads.items() if hello.is_shared else ()
        self._holders[peer.serial] = peer
        for log_id, seq in kept.logs or everything:
            if log_id not in self._own or seq > self._own_head(log_id):
                continue
            holders = self._kept.setdefault(log_id, {})
            holders[peer.serial] = max(seq, holders.get(peer.serial, -1))
            if len(holders) > KEPT_HOLDERS_MAX:
                del holders[min(holders, key=lambda serial: (holders[serial], serial))]

    def own_logs(self, revocations: Revocations) -> Iterator[OwnLog]:
        """Every own log, and how far others keep it."""
        for log_id in sorted(self._own):
            head = self._own_head(log_id)
            most = min(head, self._contested_from.get(log_id, head + 1) - 1)
            kept = {who: min(seq, most) for who, seq in self._kept.get(log_id, {}).items() if who not in revocations}
            most_first = sorted(kept, key=lambda serial: (-kept[serial], serial))
            by_one, by_two = (*(kept[serial] for serial in most_first), -1, -1)[:2]
            yield OwnLog(log_id, head, by_one, by_two, tuple(self._holders[serial] for serial in most_first))

    def _own_head(self, log_id: bytes) -> int:
        return self._frontier.logs[log_id].branches[OWN_BRANCH].head.seq
