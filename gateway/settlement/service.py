"""The settlement service's answers: one method per endpoint, over a ledger that is touched by one thread at a time.

| endpoint | who | answer |
|---|---|---|
| ``POST /v1/runs`` | gateway, reader | CBOR: what became of each run, and signed receipts; sent after the commit |
| ``GET /v1/heads`` | any device of the venue | CBOR: every head of every log |
| ``GET /v1/receipts?since=N`` | any device of the venue | CBOR: receipts of logs that changed since |
| ``GET /v1/ledger`` | any device of the venue | JSON: totals, conflicts, contested logs, entries set aside |
| ``GET /v1/status`` | any device of the venue | JSON: who this is, epoch, counts |

Errors are JSON ``{"error": sentence}``. Normative text: docs/spec/settlement.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import trio

from gateway.http import CBOR, JSON, Request, Response
from gateway.settlement.report import ledger_report, status_report
from gateway.settlement.store import HeadState, LedgerStore, Unverified
from gateway.settlement_api import (
    HeadsAnswer,
    Outcome,
    OutcomeCode,
    ReceiptsAnswer,
    RunsAnswer,
    decode_runs,
    encode_answer,
    encode_heads,
    encode_receipts,
)
from mesh.core.certificate import DeviceCertificate
from mesh.core.entry import verify_signature
from mesh.core.kinds import Role
from mesh.core.receipt import Receipt, sign_receipt
from mesh.errors import PeerError
from mesh.limits import RECEIPT_SET_ASIDE_IDS_MAX, RECEIPTS_PER_ANSWER_MAX, VERIFY_ENTRIES_PER_STEP_MAX
from mesh.ports import StatementSigner

FORWARDING_ROLES: Final = frozenset({Role.GATEWAY, Role.READER})
"""Who may post: gateways, and any reader with --upstream."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class BatchTaken:
    """What one batch brought, for whoever watches the service."""

    sender: str
    stored: int
    known: int
    set_aside: int
    refused: tuple[str, ...]


class SettlementService:
    """One ledger, answered for. Create it and run :meth:`verify_signatures` in the same trio run."""

    def __init__(
        self,
        store: LedgerStore,
        certificate: DeviceCertificate,
        signer: StatementSigner,
        *,
        taken: Callable[[BatchTaken], None] = lambda batch: None,
    ) -> None:
        """`taken` is told of every batch after its commit."""
        self._store = store
        self._certificate = certificate
        self._signer = signer
        self._one_thread = trio.CapacityLimiter(1)
        self._new_entries = trio.Event()
        self._taken = taken
        self.revoked = store.revoked_serials()
        """Serial numbers of devices that the authority has revoked, as far as that was heard here."""
        self.let_go: Callable[[frozenset[int]], None] = lambda serials: None
        """Told of the certificates that were revoked just now: whoever carries connections ends theirs."""

    async def handle(self, request: Request, peer: DeviceCertificate) -> Response:
        """Answer one request of an authenticated device of this venue."""
        if peer.serial in self.revoked:
            return refusal(HTTPStatus.FORBIDDEN, revoked_text(peer))
        match request.method, request.path:
            case "POST", "/v1/runs":
                return await self._post_runs(request, peer)
            case "GET", "/v1/heads":
                heads = await self._in_thread(self._store.heads)
                return Response(HTTPStatus.OK, CBOR, encode_heads(HeadsAnswer(self._store.epoch, tuple(heads))))
            case "GET", "/v1/receipts":
                return await self._get_receipts(request)
            case "GET", "/v1/ledger":
                return _json(await self._in_thread(lambda: ledger_report(self._store)))
            case "GET", "/v1/status":
                return _json(await self._in_thread(lambda: status_report(self._store, self._certificate.name)))
            case _, "/v1/runs" | "/v1/heads" | "/v1/receipts" | "/v1/ledger" | "/v1/status":
                return refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not for {request.path}")
            case _:
                return refusal(HTTPStatus.NOT_FOUND, f"there is nothing at {request.path}")

    async def verify_signatures(self) -> None:
        """Check every stored signature, behind the answers, for as long as the service runs."""
        while True:
            # A new event before looking, so that entries stored while this looks are not slept through.
            self._new_entries = trio.Event()
            work = await self._in_thread(lambda: self._store.next_unverified(VERIFY_ENTRIES_PER_STEP_MAX))
            if work is None:
                await self._new_entries.wait()
            else:
                await self._verify(work)

    async def _verify(self, work: Unverified) -> None:
        # Outside the ledger's thread: whoever posts meanwhile does not wait for this.
        bad = await trio.to_thread.run_sync(bad_signatures, work.first_seq, work.entries, work.log_key)
        await self._in_thread(lambda: self._store.mark_verified(work, bad))

    async def _post_runs(self, request: Request, peer: DeviceCertificate) -> Response:
        if not peer.roles & FORWARDING_ROLES:
            return refusal(
                HTTPStatus.FORBIDDEN,
                f"{peer.name!r} may not post entries here: its certificate says neither gateway nor reader. Nothing "
                f"was stored; a gateway has to forward what it carries",
            )
        try:
            runs = decode_runs(request.body)
        except PeerError as error:
            return refusal(HTTPStatus.BAD_REQUEST, f"the batch cannot be read, nothing of it was stored: {error}")
        outcomes, revoked = await self._in_thread(lambda: (self._store.accept(runs), self._store.revoked_serials()))
        self._new_entries.set()
        news, self.revoked = revoked - self.revoked, revoked
        if news:
            self.let_go(news)
        self._taken(_batch_taken(peer.name, outcomes))
        accepted = [run.log_id for run, o in zip(runs, outcomes, strict=True) if o.code is OutcomeCode.ACCEPTED]
        states = await self._in_thread(lambda: self._store.head_states(accepted[:RECEIPTS_PER_ANSWER_MAX]))
        receipts = self._sign(states[:RECEIPTS_PER_ANSWER_MAX])
        return Response(HTTPStatus.OK, CBOR, encode_answer(RunsAnswer(self._store.epoch, tuple(outcomes), receipts)))

    async def _get_receipts(self, request: Request) -> Response:
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdigit() and len(since) < 16):
            return refusal(HTTPStatus.BAD_REQUEST, "since is a number that an earlier answer gave")
        changes = await self._in_thread(lambda: self._store.changes(int(since), RECEIPTS_PER_ANSWER_MAX))
        receipts = self._sign(changes.heads)
        answer = ReceiptsAnswer(self._store.epoch, changes.next_since, changes.more, receipts)
        return Response(HTTPStatus.OK, CBOR, encode_receipts(answer))

    def _sign(self, states: Sequence[HeadState]) -> tuple[bytes, ...]:
        return tuple(
            sign_receipt(self._signer.sign, receipt_for(state, self._store.epoch, self._certificate.der))
            for state in states
        )

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await trio.to_thread.run_sync(work, limiter=self._one_thread)


def revoked_text(peer: DeviceCertificate) -> str:
    """Why a revoked device is not answered."""
    return (
        f"{peer.name!r} was revoked by the venue's authority: nothing is taken from it or told to it. What it carries "
        f"is welcome from any other device"
    )


def _batch_taken(sender: str, outcomes: Sequence[Outcome]) -> BatchTaken:
    return BatchTaken(
        sender,
        stored=sum(outcome.stored for outcome in outcomes),
        known=sum(outcome.known for outcome in outcomes),
        set_aside=sum(outcome.set_aside for outcome in outcomes),
        refused=tuple(outcome.sentence for outcome in outcomes if outcome.code is OutcomeCode.REFUSED),
    )


def receipt_for(state: HeadState, epoch: bytes, certificate: bytes) -> Receipt:
    """What is to be signed about one head."""
    return Receipt(
        state.log_id,
        state.head.seq,
        state.head.id,
        state.count,
        state.sum_minor,
        state.verified_up_to,
        len(state.set_aside),
        state.set_aside[:RECEIPT_SET_ASIDE_IDS_MAX],
        epoch,
        certificate,
    )


def bad_signatures(first_seq: int, entries: Sequence[bytes], log_key: bytes) -> list[int]:
    """The seqs of the entries whose own signature does not verify."""
    bad: list[int] = []
    for seq, entry in enumerate(entries, first_seq):
        try:
            verify_signature(entry, log_key)
        except PeerError:
            bad.append(seq)
    return bad


def refusal(status: int, sentence: str) -> Response:
    """An error response: one sentence for a person."""
    return Response(status, JSON, json.dumps({"error": sentence}).encode() + b"\n")


def _json(report: dict[str, object]) -> Response:
    return Response(HTTPStatus.OK, JSON, json.dumps(report).encode() + b"\n")
