"""One JSON document that says where a device stands: what it holds, its peers, what is missing, what is here only.

The same shape for a device that runs (:class:`Reporter`) and for one whose files are looked at (`status_on_disk`):
there `running` is false, and what only its program would know is null. docs/adr/0094-status-socket.md has the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from mesh.core.backing import OwnLog
from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate, parse_venue_root
from mesh.core.chain import check_run, parse_genesis
from mesh.core.currency import Currency
from mesh.core.frontier import Segment
from mesh.core.intake import OWN_BRANCH
from mesh.core.kinds import Lane
from mesh.core.progress import Amount, Missing, NodeStatus, PeerProgress
from mesh.errors import PeerError
from mesh.limits import STATUS_MISSING_LOGS_MAX
from mesh.shell.device import Device
from mesh.shell.keys import CERTIFICATE_FILE, ROOT_FILE, NotEnrolled, read_certificate
from mesh.shell.notice_lines import author_name, roles
from mesh.shell.output import Json
from mesh.shell.store import OWN_FILE, REPLICA_FILE, Durability, RunStore, StoredLog
from mesh.views.alone import Alone, alone_of
from mesh.views.everything import Views

STATUS_VERSION: Final = 1
_READ_ENTRIES: Final = 1024
"""Own entries that one visit to the store sums up."""


@dataclass(slots=True)
class _Summed:
    """Own entries of one log that were summed up: from after `safe_seq` to `last_seq`."""

    safe_seq: int
    last_seq: int
    alone: Alone


class Reporter:
    """Reports on one open device; remembers the sums, so that a long night alone is not read again each second."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._summed: dict[bytes, _Summed] = {}

    async def report(self) -> dict[str, Json]:
        """What is known at this moment."""
        device = self._device
        node = device.node.status(trio.current_time())
        own = await self._own(node.own_logs)
        now_s = trio.current_time()
        return {
            **_about(device.certificate, device.surroundings.unix_ms(), running=True),
            "zone": device.node.zone,
            "held": {
                "entries": node.entries,
                "logs": node.logs,
                "bytes": await device.surroundings.in_thread(partial(_bytes_of, device.identity.directory)),
                "digest": device.node.frontier.digest().hex(),
            },
            "peers": [_peer(peer, now_s) for peer in sorted(node.peers, key=lambda peer: peer.peer.name)],
            "coming": {"entries": node.coming.entries, "bytes": node.coming.bytes},
            "missing": self._missing(node),
            "own": own,
        }

    async def _own(self, logs: Iterable[OwnLog]) -> dict[str, Json]:
        alone, shown = Alone(), []
        for log in logs:
            lane = self._device.node.frontier.logs[log.log_id].genesis.lane
            receipt = self._device.views.receipts.safe_seq(log.log_id)
            contested = self._device.node.contested_from.get(log.log_id)
            safe = max(log.kept_by_one, receipt if contested is None else min(receipt, contested - 1))
            if lane is Lane.MONEY:
                alone += await self._alone(log, safe)
            shown.append(_own_log(log, lane, receipt))
        document = self._device.venue.document()
        return _own_fields(alone, None if document is None else document.currency, self._now_ms(), shown)

    async def _alone(self, log: OwnLog, safe_seq: int) -> Alone:
        summed = self._summed.get(log.log_id)
        if summed is None or summed.safe_seq != safe_seq:
            summed = self._summed[log.log_id] = _Summed(safe_seq, safe_seq, Alone())
        while summed.last_seq < log.head_seq:
            last = min(log.head_seq, summed.last_seq + _READ_ENTRIES)
            segment = Segment(OWN_BRANCH, summed.last_seq + 1, last)
            read = partial(_sum_up, log_id=log.log_id, segment=segment)
            summed.alone += await self._device.read_store(log.log_id, read)
            summed.last_seq = last
        return summed.alone

    def _missing(self, node: NodeStatus) -> dict[str, Json]:
        names = {peer.link: peer.peer.name for peer in node.peers}
        newest_first = sorted(node.missing, key=lambda one: -one.entries)[:STATUS_MISSING_LOGS_MAX]
        return {
            "logs": len(node.missing),
            "entries": sum(one.entries for one in node.missing),
            "named": [self._missing_log(one, names) for one in newest_first],
        }

    def _missing_log(self, missing: Missing, names: Mapping[int, str]) -> dict[str, Json]:
        return {
            "log": missing.log_id.hex(),
            "device": author_name(self._device, missing.log_id) if missing.held_seq >= 0 else None,
            "held_seq": missing.held_seq,
            "known_seq": missing.known_seq,
            "entries": missing.entries,
            "from": [names[link] for link in missing.offered_by if link in names],
        }

    def _now_ms(self) -> int:
        return self._device.surroundings.unix_ms()


def _sum_up(store: RunStore, *, log_id: bytes, segment: Segment) -> Alone:
    return alone_of(store.read_entries(log_id, segment))


def _about(certificate: DeviceCertificate, now_ms: int, *, running: bool) -> dict[str, Json]:
    return {
        "event": "status",
        "version": STATUS_VERSION,
        "running": running,
        "name": certificate.name,
        "serial": str(certificate.serial),
        "roles": roles(certificate),
        "unix_ms": now_ms,
    }


def _peer(peer: PeerProgress, now_s: float) -> dict[str, Json]:
    return {
        "name": peer.peer.name,
        "serial": str(peer.peer.serial),
        "roles": roles(peer.peer),
        "zone": peer.zone,
        "linked_s": round(now_s - peer.met_at, 3),
        "in_step": peer.in_step,
        "they_lack": _amount(peer.they_lack),
        "we_lack": _amount(peer.we_lack),
        "coming": {"entries": peer.coming.entries, "bytes": peer.coming.bytes},
    }


def _amount(amount: Amount) -> dict[str, Json]:
    return {"logs": amount.logs, "entries": amount.entries}


def _own_log(log: OwnLog, lane: Lane, receipt_seq: int) -> dict[str, Json]:
    return {
        "log": log.log_id.hex(),
        "lane": lane.name,
        "head_seq": log.head_seq,
        "kept_by_one": log.kept_by_one,
        "kept_by_two": log.kept_by_two,
        "receipt_seq": receipt_seq,
        "holders": [holder.name for holder in log.holders],
    }


def _own_fields(alone: Alone, currency: Currency | None, now_ms: int, logs: list[dict[str, Json]]) -> dict[str, Json]:
    sums: list[Json] = [
        {
            "operation": operation.name.lower(),
            "count": one.count,
            "amount_minor": one.amount_minor,
            "amount": None if currency is None else currency.format(one.amount_minor),
        }
        for operation, one in alone.sums
    ]
    oldest = alone.oldest_ms
    return {
        "currency": None if currency is None else {"code": currency.code, "exponent": currency.exponent},
        "here_only": {
            "entries": alone.entries,
            "taps": alone.taps,
            "sums": sums,
            "oldest_ms": oldest,
            "oldest_s": None if oldest is None else max(0, now_ms - oldest) // 1000,
        },
        "logs": logs,
    }


def _bytes_of(directory: Path) -> int:
    """What both stores take on the disk, with what belongs to them."""
    total = 0
    for path in (path for name in (OWN_FILE, REPLICA_FILE) for path in directory.glob(f"{name}*")):
        with suppress(FileNotFoundError):  # a log that was written into its file meanwhile
            total += path.stat().st_size
    return total


# -- Without its program -------------------------------------------------------------------------------------------


def status_on_disk(directory: Path, now_ms: int) -> dict[str, Json]:
    """What the files of a device say that no program runs; reads them only."""
    certificate_file = directory / CERTIFICATE_FILE
    if not certificate_file.exists():
        raise NotEnrolled(
            f"there is no enrolled device in {directory}: nothing can be said about its money. Give the directory that "
            f"'tapmesh reader run --dir' or the like is given"
        )
    root = parse_venue_root(read_certificate(directory / ROOT_FILE, "the venue's root certificate"))
    certificate = parse_device_certificate(read_certificate(certificate_file, "the device's certificate"), root)
    seen = _Seen(root)
    for name in (OWN_FILE, REPLICA_FILE):
        if (directory / name).exists():
            with closing(RunStore(directory / name, Durability.PROCESS, read_only=True)) as store:
                seen.read(store, is_own=name == OWN_FILE)
    alone = Alone()
    if seen.money:
        with closing(RunStore(directory / OWN_FILE, Durability.PROCESS, read_only=True)) as store:
            for log_id, head_seq in seen.money.items():
                segment = Segment(OWN_BRANCH, seen.views.receipts.safe_seq(log_id) + 1, head_seq)
                alone += _sum_up(store, log_id=log_id, segment=segment)
    document = seen.views.venue.document()
    own = _own_fields(alone, None if document is None else document.currency, now_ms, list(seen.own_logs()))
    return {
        **_about(certificate, now_ms, running=False),
        "zone": None,
        "held": {"entries": seen.entries, "logs": seen.logs, "bytes": _bytes_of(directory), "digest": None},
        **dict.fromkeys(("peers", "coming", "missing")),
        "own": own,
    }


class _Seen:
    """What is in a device's files."""

    def __init__(self, root: VenueRoot) -> None:
        self._root = root
        self._own: dict[bytes, tuple[Lane, int]] = {}
        self.views = Views(root, own_logs=self._own.keys())
        self.money: dict[bytes, int] = {}
        self.entries = 0
        self.logs = 0

    def read(self, store: RunStore, *, is_own: bool) -> None:
        for log in store.logs():
            self.logs += 1
            self.entries += sum(branch.head.seq - branch.from_seq + 1 for branch in log.branches)
            try:
                genesis = parse_genesis(log.genesis, self._root)
                if is_own:
                    self._add_own(log, genesis.lane)
                if genesis.lane is Lane.CONTROL:
                    for entries in store.runs(log.log_id):
                        self.views.fold(check_run(log.log_id, entries), genesis, None)
            except PeerError:
                continue  # 'tapmesh log verify' names it; here it only counts for nothing

    def _add_own(self, log: StoredLog, lane: Lane) -> None:
        head_seq = log.branches[OWN_BRANCH].head.seq
        self._own[log.log_id] = lane, head_seq
        if lane is Lane.MONEY:
            self.money[log.log_id] = head_seq

    def own_logs(self) -> Iterator[dict[str, Json]]:
        for log_id, (lane, head_seq) in sorted(self._own.items()):
            own = OwnLog(log_id, head_seq, -1, -1, ())
            yield _own_log(own, lane, self.views.receipts.safe_seq(log_id))
