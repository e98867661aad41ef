"""What a gateway and the settlement service say to each other: the CBOR bodies of docs/spec/settlement.md. Pure.

::

    runs     = [[log_id(16), count, blob], ...]                      POST /v1/runs
    answer   = [epoch, [outcome, ...], [receipt, ...]]               one outcome per run, in order
    outcome  = [code, stored, known, set_aside, need_from, sentence]
    heads    = [epoch, [[log_id, [[seq, id], ...]], ...]]            GET /v1/heads
    receipts = [epoch, next, more, [receipt, ...]]                   GET /v1/receipts?since=N
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from mesh.core.codec import Value, decode_array, encode
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES
from mesh.core.frontier import Position
from mesh.core.receipt import STORE_EPOCH_BYTES
from mesh.errors import PeerError
from mesh.limits import (
    BRANCHES_PER_LOG_MAX,
    ENTRY_SEQ_MAX,
    LOGS_MAX,
    RECEIPTS_PER_ANSWER_MAX,
    RUN_ENTRIES_MAX,
    SENTENCE_CHARS_MAX,
    UPSTREAM_BATCH_BYTES_MAX,
    UPSTREAM_RUNS_PER_BATCH_MAX,
)


class BadSettlementMessage(PeerError):
    """A body is canonical CBOR but not what the settlement protocol says here."""


class OutcomeCode(IntEnum):
    """What became of one run."""

    ACCEPTED = 0
    """Every entry of it is stored; `stored` of them are new, `known` were there."""
    NEED = 1
    """What it follows is not stored: send the log from `need_from` on. Nothing of it was stored."""
    REFUSED = 2
    """It breaks a rule, told in `sentence`. Nothing of it was stored; other runs are not affected."""


@dataclass(frozen=True, slots=True)
class OfferedRun:
    """A contiguous piece of one log, its blob as made by `mesh.core.chain.encode_run`."""

    log_id: bytes
    count: int
    blob: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one run."""

    code: OutcomeCode
    stored: int = 0
    known: int = 0
    set_aside: int = 0
    """Of the entries stored now, those that are not in order: kept, named, and never in the way of others."""
    need_from: int = 0
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class RunsAnswer:
    """The answer to one batch, sent after its transaction has committed."""

    epoch: bytes
    outcomes: tuple[Outcome, ...]
    receipts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class LogHeads:
    """Every head of one log: normally one, more where it forked."""

    log_id: bytes
    heads: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class HeadsAnswer:
    """Everything the service holds, by its heads."""

    epoch: bytes
    logs: tuple[LogHeads, ...]


@dataclass(frozen=True, slots=True)
class ReceiptsAnswer:
    """Receipts of the logs that changed after `since`; ask again with `next_since` while `more`."""

    epoch: bytes
    next_since: int
    more: bool
    receipts: tuple[bytes, ...]


def encode_runs(runs: Sequence[OfferedRun]) -> bytes:
    return encode([[run.log_id, run.count, run.blob] for run in runs])


def decode_runs(body: bytes) -> list[OfferedRun]:
    """Parse a batch, or raise a `PeerError`; the runs themselves are checked one by one when they are stored."""
    items = decode_array(body, bytes_max=UPSTREAM_BATCH_BYTES_MAX)
    if not 1 <= len(items) <= UPSTREAM_RUNS_PER_BATCH_MAX:
        raise BadSettlementMessage(f"a batch has 1 to {UPSTREAM_RUNS_PER_BATCH_MAX} runs, not {len(items)}")
    return [_run(item) for item in items]


def _run(item: object) -> OfferedRun:
    match item:
        case [bytes(log_id), int(count), bytes(blob)] if len(log_id) == LOG_ID_BYTES and count is not True:
            return OfferedRun(log_id, count, blob)
        case _:
            raise BadSettlementMessage("a run is [log_id(16), count, blob]")


def encode_answer(answer: RunsAnswer) -> bytes:
    outcomes: list[Value] = [
        [int(o.code), o.stored, o.known, o.set_aside, o.need_from, o.sentence[:SENTENCE_CHARS_MAX]]
        for o in answer.outcomes
    ]
    return encode([answer.epoch, outcomes, list(answer.receipts)])


def decode_answer(body: bytes, runs_count: int) -> RunsAnswer:
    """Parse the answer to a batch of `runs_count` runs, or raise a `PeerError`."""
    match decode_array(body, bytes_max=UPSTREAM_BATCH_BYTES_MAX):
        case [bytes(epoch), list(outcomes), list(receipts)] if len(outcomes) == runs_count:
            return RunsAnswer(_epoch(epoch), tuple(map(_outcome, outcomes)), _receipts(receipts))
        case _:
            raise BadSettlementMessage("an answer is [epoch, one outcome per run, receipts]")


def _outcome(item: object) -> Outcome:
    match item:
        case [int(code), stored, known, set_aside, need_from, str(sentence)] if (
            len(sentence) <= SENTENCE_CHARS_MAX and code is not True and code in set(OutcomeCode)
        ):
            return Outcome(
                OutcomeCode(code),
                _bounded(stored, RUN_ENTRIES_MAX),
                _bounded(known, RUN_ENTRIES_MAX),
                _bounded(set_aside, RUN_ENTRIES_MAX),
                _bounded(need_from, ENTRY_SEQ_MAX),
                sentence,
            )
        case _:
            raise BadSettlementMessage("an outcome is [code, stored, known, set_aside, need_from, sentence]")


def encode_heads(answer: HeadsAnswer) -> bytes:
    logs: list[Value] = [[log.log_id, [[head.seq, head.id] for head in log.heads]] for log in answer.logs]
    return encode([answer.epoch, logs])


def decode_heads(body: bytes) -> HeadsAnswer:
    match decode_array(body, bytes_max=UPSTREAM_BATCH_BYTES_MAX):
        case [bytes(epoch), list(logs)] if len(logs) <= LOGS_MAX:
            return HeadsAnswer(_epoch(epoch), tuple(map(_log_heads, logs)))
        case _:
            raise BadSettlementMessage("heads are [epoch, [[log_id, heads], ...]]")


def _log_heads(item: object) -> LogHeads:
    match item:
        case [bytes(log_id), list(heads)] if len(log_id) == LOG_ID_BYTES and 1 <= len(heads) <= BRANCHES_PER_LOG_MAX:
            return LogHeads(log_id, tuple(map(_position, heads)))
        case _:
            raise BadSettlementMessage("a log's heads are [log_id(16), [[seq, id(32)], ...]]")


def _position(item: object) -> Position:
    match item:
        case [seq, bytes(identifier)] if len(identifier) == ID_BYTES:
            return Position(_bounded(seq, ENTRY_SEQ_MAX), identifier)
        case _:
            raise BadSettlementMessage("a head is [seq, id(32)]")


def encode_receipts(answer: ReceiptsAnswer) -> bytes:
    return encode([answer.epoch, answer.next_since, answer.more, list(answer.receipts)])


def decode_receipts(body: bytes) -> ReceiptsAnswer:
    match decode_array(body, bytes_max=UPSTREAM_BATCH_BYTES_MAX):
        case [bytes(epoch), next_since, bool(more), list(receipts)]:
            return ReceiptsAnswer(_epoch(epoch), _bounded(next_since, 2**53), more, _receipts(receipts))
        case _:
            raise BadSettlementMessage("receipts are [epoch, next, more, [receipt, ...]]")


def _receipts(items: Sequence[object]) -> tuple[bytes, ...]:
    receipts = tuple(item for item in items if isinstance(item, bytes))
    if len(receipts) != len(items) or len(items) > RECEIPTS_PER_ANSWER_MAX + BRANCHES_PER_LOG_MAX:
        raise BadSettlementMessage("receipts are byte strings, and not too many of them")
    return receipts


def _epoch(value: bytes) -> bytes:
    if len(value) != STORE_EPOCH_BYTES:
        raise BadSettlementMessage(f"a store epoch has {STORE_EPOCH_BYTES} bytes")
    return value


def _bounded(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise BadSettlementMessage(f"an integer from 0 to {most} is required here")
    return value
