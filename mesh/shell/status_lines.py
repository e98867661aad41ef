"""A status document for people: short, and no line wider than 80 columns. Pure: a document in, lines out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

Document: TypeAlias = "dict[str, Any]"
"""As mesh.shell.status makes it, read from JSON."""

LINE_CHARS: Final = 80
_NAME_CHARS: Final = 20
_ZONE_CHARS: Final = 10
_LOGS_SHOWN: Final = 5


def lines_of(status: Document) -> list[str]:
    """What `tapmesh status` shows."""
    return [cut(line, LINE_CHARS) for line in _lines(status)]


def _lines(status: Document) -> Iterator[str]:
    held = status["held"]
    where = f", zone {status['zone']}" if status["zone"] else ""
    yield f"{cut(status['name'], 40)} ({', '.join(status['roles'])}){where}"
    yield f"holds {held['entries']:,} entries of {_count(held['logs'], 'log')} ({size(held['bytes'])} on disk)"
    if status["running"]:
        yield from _peers(status["peers"])
        yield from _missing(status["missing"], status["coming"])
    else:
        yield "peers: unknown, because no program runs with this device"
    yield from _here_only(status["own"], running=status["running"])


def _peers(peers: Sequence[Document]) -> Iterator[str]:
    if not peers:
        yield "peers: nobody is linked; what is sold now is on this device only"
        return
    yield f"{'peer':<{_NAME_CHARS}} {'zone':<{_ZONE_CHARS}} {'linked':>8} {'they lack':>10} {'we lack':>9}  coming"
    for peer in peers:
        coming = peer["coming"]
        planned = f"{coming['entries']:,} ({size(coming['bytes'])})" if coming["entries"] else "-"
        yield (
            f"{cut(peer['name'], _NAME_CHARS):<{_NAME_CHARS}} {cut(peer['zone'], _ZONE_CHARS):<{_ZONE_CHARS}} "
            f"{span(peer['linked_s']):>8} {peer['they_lack']['entries']:>10,} {peer['we_lack']['entries']:>9,}  "
            f"{'in step' if peer['in_step'] else planned}"
        )


def _missing(missing: Document, coming: Document) -> Iterator[str]:
    if not missing["logs"]:
        yield "nothing is known to exist that is not held here"
        return
    yield (
        f"known to exist, not held: {missing['entries']:,} entries of {_count(missing['logs'], 'log')}; "
        f"on the way: {coming['entries']:,} ({size(coming['bytes'])})"
    )
    for one in missing["named"][:_LOGS_SHOWN]:
        whose = cut(one["device"], _NAME_CHARS) if one["device"] else f"log {one['log'][:12]}"
        yield f"  {one['entries']:,} of {whose}, from {' or '.join(one['from']) or 'nobody who is linked now'}"
    if missing["logs"] > _LOGS_SHOWN:
        yield f"  and {_count(missing['logs'] - _LOGS_SHOWN, 'log')} more"


def _here_only(own: Document, *, running: bool) -> Iterator[str]:
    alone = own["here_only"]
    if not alone["taps"]:
        yield "on this device only: no money"
    for one in alone["sums"]:
        amount = one["amount"] or f"{one['amount_minor']:,} minor units"
        what = one["operation"].replace("_", "-") + ("" if one["count"] == 1 else "s")
        yield f"on this device only: {one['count']:,} {what}, {amount}"
    if alone["taps"]:
        yield f"  the oldest {span(alone['oldest_s'])} ago; keep this device safe until they are elsewhere"
        if not running:
            yield "  (start its program: until a peer says again what it keeps, nothing counts as kept)"
    yield from _copies(own["logs"])


def _copies(logs: Sequence[Document]) -> Iterator[str]:
    money = [log for log in logs if log["lane"] == "MONEY" and log["head_seq"] >= 0]
    holders = list(dict.fromkeys(name for log in money for name in log["holders"]))
    if holders:
        at_two = sum(log["head_seq"] > max(log["kept_by_two"], log["receipt_seq"]) for log in money)
        more = "" if at_two == 0 else f"; not yet on a second one: {_count(at_two, 'log')}"
        yield f"copies on disk at {' and '.join(cut(name, _NAME_CHARS) for name in holders[:2])}{more}"
    receipts = sum(log["receipt_seq"] + 1 for log in money)
    if receipts:
        yield f"settled: {receipts:,} of {sum(log['head_seq'] + 1 for log in money):,} own money entries have a receipt"


def cut(text: str, chars: int) -> str:
    """A text that fits.

    >>> cut("The bar behind the stage", 12)
    'The bar beh…'
    """
    return text if len(text) <= chars else text[: chars - 1] + "…"


def size(count: int) -> str:
    """Bytes for people.

    >>> size(3_140_000)
    '3.1 MB'
    """
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def span(seconds: float) -> str:
    """A length of time for people.

    >>> span(3725)
    '01:02:05'
    """
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}d {clock}" if days else clock


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
