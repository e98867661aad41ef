"""The whole demo: set up, play, read back, check. The result is what `--json` prints."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from mesh.demo.acts import READERS, Play, ledger
from mesh.demo.event import money, plan_event, set_up
from mesh.demo.figures import double_spends, lost, read_cases, read_held, read_written
from mesh.demo.processes import Child, Children, DemoFailed, Said
from mesh.demo.stage import Stage, shown

_COLOURS = {"green": "green", "red": "red", "amber": "yellow", "conflict": "red"}
PANELS = (*READERS, "Courier", "Gateway", "Settlement")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`figures` come from databases, `failed` names the checks that did not hold, `case` is the proof if any."""

    figures: dict[str, Any]
    failed: list[str]
    case: bytes | None
    root_pem: bytes


async def play_demo(seed: int, stage: Stage, *, with_courier: bool) -> Outcome:
    """Play the story once; raises :class:`DemoFailed` where an act cannot go on."""
    with tempfile.TemporaryDirectory(prefix="tapmesh-demo-") as scratch, shown(stage):
        event = plan_event(Path(scratch), seed)
        stage.act("0. Before doors: an event, its devices, their keys")
        await set_up(event)
        stage.narrate("every device made its own keys; the authority signed; nothing secret moved")
        async with trio.open_nursery() as nursery:
            children = Children(nursery, lambda child, said: _show(stage, child, said))
            play = Play(event, stage, children, with_courier)
            try:
                await _acts(play)
            finally:
                await children.stop_all()
        return await _read_back(play)


async def _acts(play: Play) -> None:
    acts = [play.open_bars, play.clone_spends, play.third_bar, play.kill_and_settle]
    if play.with_courier:
        acts.insert(2, play.courier_walks)
    for act in acts:
        await act()
        await trio.sleep(play.stage.pause_s)


def _show(stage: Stage, child: Child, said: Said) -> None:
    """Put what a program says into its panel."""
    if child.name in READERS:
        text = _reader_line(said)
    elif child.name in PANELS:
        text = _other_line(said)
    else:
        text = None
    if text is not None:
        stage.screen(child.name, text, _COLOURS.get(said.event, "cyan"))


def _reader_line(said: Said) -> str | None:
    """What a bar's screen shows."""
    fields = said.fields
    match said.event:
        case "green":
            return f"GREEN {fields['operation']} {money(fields['amount_minor'])}  {fields['ms']:.0f} ms"
        case "red":
            return f"RED {fields['reason']}: {fields['staff']}"
        case "conflict":
            places = ", ".join(f"{tap['reader']} #{tap['seq']} {money(tap['amount_minor'])}" for tap in fields["taps"])
            return f"DOUBLE SPEND {fields['card'][:8]}: {places}"
        case "amber" if fields["notice"] != "armed":
            return f"... {fields['notice'].replace('_', ' ')}"
        case _:
            return None


def _other_line(said: Said) -> str | None:
    """What couriers, gateways and the service say of their work."""
    fields = said.fields
    match said.event:
        case "carrying" | "walked":
            return f"in zone {fields['zone']}, carrying {fields['entries']} entries"
        case "in_step":
            return f"in step with {fields['peer']} after {fields['ms']:.0f} ms"
        case "forwarded":
            return f"forwarded {fields['sent']}, {fields['stored']} of them new"
        case "resent":
            return f"resent {fields['resent']}, changed {fields['changed']}"
        case "batch":
            return f"{fields['stored']} new entries, {fields['known']} known"
        case _:
            return None


async def _read_back(play: Play) -> Outcome:
    """Every figure from the databases, and every check by name."""
    event, told = play.event, play.told
    written, books = read_written(event), await ledger(event)
    held = [await read_held(event.posts[name].directory) for name in READERS]
    held.append(await read_held(event.gateway))
    cases = read_cases(event.posts["Bar A"].directory)
    before = told.forwarded_before
    spends = double_spends(event, told)
    figures: dict[str, Any] = {
        "taps": len(written.taps),
        "greens_minor": written.sales_minor,
        "double_spends": spends,
        "declined_after_proof": told.declined_after_proof,
        "settled": {"entries": books["entries"], "amount_minor": books["sales_minor"]},
        "resent": told.resent,
        "replayed_new": told.changed,
        "lost": lost(written, books),
        "clone_cost_minor": sum(conflict["at_risk_minor"] for conflict in books["conflicts"]),
    }
    checks = {
        "what screens showed green is what the readers wrote": _screens(play.children.history) == written.taps_by_id(),
        "greens equal the ledger to the cent": books["sales_minor"] == written.sales_minor and books["balanced"],
        "nothing is lost": figures["lost"] == 0,
        "sending everything again changes nothing": told.resent > 0
        and told.changed == 0
        and (books["taps"], books["sales_minor"]) == (before["taps"], before["sales_minor"]),
        "every node holds byte-identical money logs": all(each.heads == held[0].heads for each in held),
        "every node has equal views": all(each.accounts == held[0].accounts for each in held),
        "nothing was set aside": not books["set_aside"] and not books["contested"],
    }
    checks |= _with_courier(figures, play) if play.with_courier else _without_courier(play)
    failed = [name for name, holds in checks.items() if not holds]
    figures["ok"] = not failed
    case = cases[0] if play.with_courier and len(cases) == 1 else None
    return Outcome(figures, failed, case, event.root.read_bytes())


def _with_courier(figures: dict[str, Any], play: Play) -> dict[str, bool]:
    spends, clone_price = figures["double_spends"], play.event.clone_price_minor
    return {
        "the double spend surfaced at both bars": len(spends) == 1
        and set(spends[0]["surfaced_ms"]) == {"Bar A", "Bar C"},
        "the proof names both bars": len(spends) == 1 and sorted(spends[0]["readers"]) == ["Bar A", "Bar C"],
        "the third tap was declined": play.told.declined_after_proof,
        "the clone cost one tap": figures["clone_cost_minor"] == clone_price,
    }


def _without_courier(play: Play) -> dict[str, bool]:
    return {
        "without a courier the third tap went green": play.told.third_tap_green,
        "without a courier nothing surfaced before the gateway": not play.told.surfaced_at,
    }


def _screens(heard: list[Said]) -> dict[str, int]:
    """What was shown green, by tap id: a tap that was shown twice was shown for one charge."""
    return {said.fields["tap_id"]: said.fields["amount_minor"] for said in heard if said.event == "green"}


def last_line(figures: dict[str, Any]) -> str:
    """The one sentence at the end."""
    settled = figures["settled"]["amount_minor"]
    equal = "=" if figures["greens_minor"] == settled else "IS NOT"
    return (
        f"greens {money(figures['greens_minor'])} {equal} ledger {money(settled)}, resent {figures['resent']}, "
        f"changed {figures['replayed_new']}, the clone cost {money(figures['clone_cost_minor'])}"
    )


def require(outcome: Outcome) -> None:
    """Raise :class:`DemoFailed` with every check that did not hold."""
    if outcome.failed:
        raise DemoFailed("these did not hold: " + "; ".join(outcome.failed))
