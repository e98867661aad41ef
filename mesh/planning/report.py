"""An outcome for people: a table, the plot, and what it means in plain words."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mesh.core.currency import Currency
from mesh.planning.figures import Quantiles
from mesh.planning.outcome import Outcome, warnings
from mesh.planning.plan import MEETING_S, format_length
from mesh.planning.plot import terminal_plot


def show(outcome: Outcome, console: Console) -> None:
    """Print everything, as wide as the console is."""
    for part in (_about(outcome), _clone_table(outcome), _money_table(outcome)):
        console.print(part)
    if console.options.ascii_only:
        console.print("This terminal shows no plot (its encoding has ASCII only): --plot FILE.svg writes one.")
    else:
        drawn = terminal_plot(outcome, console.width, colours=console.color_system is not None)
        console.print(Text.from_ansi(drawn), no_wrap=True, crop=False, overflow="ignore")
    for sentence in in_words(outcome):
        console.print()
        console.print(sentence, highlight=False, markup=False)


def in_words(outcome: Outcome) -> list[str]:
    """What the figures mean and what one change would help most, a paragraph each."""
    return [
        _clone_words(outcome),
        _money_words(outcome),
        _cause_words(outcome),
        *_change_words(outcome),
        *warnings(outcome.plan),
    ]


def _about(outcome: Outcome) -> RenderableType:
    plan = outcome.plan
    online = [zone.name for zone in plan.zones if plan.is_online(zone.name)]
    offline = [zone.name for zone in plan.zones if zone.name not in online]
    zones = "one zone" if len(plan.zones) == 1 else f"{len(plan.zones)} zones"
    parts = [f"{plan.readers} readers in {zones}"]
    parts += [f"on a network with a gateway: {', '.join(online)}"] if online else []
    parts += [f"on none: {', '.join(offline)}"] if offline else []
    parts += [f"couriers: {len(plan.couriers)}", f"{len(outcome.samples):,} clones, seed {outcome.seed}"]
    return Text("; ".join(parts))


def _clone_table(outcome: Outcome) -> Table:
    classes, currency = outcome.classes, outcome.plan.currency
    table = _table(f"When a clone is refused, from its first use; amounts in {currency.code}")
    groups = [("all clones", classes.overall)]
    if classes.same_zone is not None and classes.across_zones is not None:
        groups += [("bars in one zone", classes.same_zone), ("bars in two zones", classes.across_zones)]
    for name, figures in groups:
        table.add_row(f"{name}, {figures.clones:,}", "", "", "", style="bold")
        table.add_row("  at once", _percent(figures.refused_at_once), "", "")
        table.add_row("  by one bar", *_three(figures.first_bar_s))
        table.add_row("  by both bars", *_three(figures.both_bars_s))
        table.add_row("  by every reader", *_three(figures.every_reader_s))
        table.add_row("  taps it can make", *_three(figures.taps, lambda value: f"{value:.0f}"))
        table.add_row("  it can spend", *_three(figures.spent_minor, partial(_amount, currency)), end_section=True)
    return table


def _money_table(outcome: Outcome) -> Table:
    table = _table("How late money is, from the tap")
    table.add_row("at a gateway", *_three(outcome.money.to_gateway_s))
    table.add_row("on a second device", *_three(outcome.money.second_copy_s))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("p50", "p99", "worst"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _clone_words(outcome: Outcome) -> str:
    figures, currency = outcome.classes.overall, outcome.plan.currency
    words = _progress("clones", "refused by every reader", figures.every_reader_s, figures.never_everywhere)
    if figures.spent_minor.p99 == 0:
        return f"{words} Not one of 100 gets to spend anything."
    spent = currency.format(round(figures.spent_minor.p99))
    words += f" A thief who always picks the right bar spends up to {spent} with the copy (99 of 100)"
    if figures.spent_minor.p50 == outcome.plan.money.balance_minor:
        return f"{words}, which is the whole wristband even in the median: only its balance bounds the loss."
    return f"{words}, and {currency.format(round(figures.spent_minor.p50))} in the median."


def _money_words(outcome: Outcome) -> str:
    money, currency = outcome.money, outcome.plan.currency
    late, alone = currency.format(money.not_at_gateway_minor), currency.format(money.on_one_device_minor)
    return (
        f"{_progress('taps', 'at a gateway', money.to_gateway_s, money.never_at_gateway)} "
        f"At the peak bars take {currency.format(money.hour_minor)} an hour; at any moment {late} of the last hour's "
        f"({_percent(money.not_at_gateway)}) are not at a gateway yet, and {alone} ({_percent(money.on_one_device)}) "
        f"are on one device only: gone if that device is."
    )


def _progress(what: str, done: str, delay_s: Quantiles, never: float) -> str:
    """Half of them, 99 of 100 of them, and those that never get there."""
    if delay_s.p50 == inf:
        return f"{_percent(never)} of the {what} are never {done}, until somebody carries the news."
    if delay_s.p99 == inf:
        rest = f"{_percent(never)} never are, until somebody carries the news"
        return f"Half of the {what} are {done} {_after(delay_s.p50)}; {rest}."
    if delay_s.p50 == delay_s.p99:
        return f"99 of 100 {what} are {done} {_after(delay_s.p99)}."
    return f"Half of the {what} are {done} {_after(delay_s.p50)}, 99 of 100 {_after(delay_s.p99)}."


def _cause_words(outcome: Outcome) -> str:
    comparison = outcome.comparison
    cause, now = comparison.main_cause, comparison.as_planned
    if cause is None and now.every_reader_s.p99 <= MEETING_S:
        return "Nothing holds news up: what is left is gossip."
    if cause is None:
        return "No one thing dominates: with any single outage or gap between zones gone, the rest delays as much."
    words = ""
    if now.every_reader_s.p99 < inf:
        last = ", ".join(f"{each.zone} ({_percent(each.part)})" for each in outcome.last[:3])
        words = f"Of the slowest clones, the last to refuse are the readers of {last}. "
    words += f"What dominates is {cause.text}: without it clones are refused by every reader "
    if now.every_reader_s.p99 == cause.every_reader_s.p99:
        return f"{words}{format_length(now.every_reader_mean_s - cause.every_reader_mean_s)} sooner on average."
    return f"{words}{_after(cause.every_reader_s.p99)} (99 of 100), and now {_after(now.every_reader_s.p99)}."


def _change_words(outcome: Outcome) -> list[str]:
    comparison, currency = outcome.comparison, outcome.plan.currency
    best, best_for_money, now = comparison.best_change, comparison.best_for_money, comparison.as_planned
    words = []
    if best is not None:
        spends, spends_now = (currency.format(round(effect.spent_minor.p99)) for effect in (best, now))
        words.append(
            f"Against clones, one change helps most: {best.text}. Until every reader refuses a clone: "
            f"{_typical(best.every_reader_s)} (now {_typical(now.every_reader_s)}). Until money is at a gateway: "
            f"{_typical(best.to_gateway_s)} (now {_typical(now.to_gateway_s)}). "
            f"It can spend {spends} (now {spends_now})."
        )
        others = [effect for effect in comparison.changes if effect is not best and comparison.helps_clones(effect)]
        if others:
            listed = "; ".join(f"{effect.text} ({_typical(effect.every_reader_s)})" for effect in others[:3])
            words.append(f"Next best, until every reader refuses a clone: {listed}.")
    elif comparison.main_cause is not None:
        words.append("No single change tried (a courier more, faster rounds, networks, shorter outages) helps.")
    if best_for_money is not None and best_for_money is not best:
        words.append(
            f"For money, one change helps most: {best_for_money.text}. Until it is at a gateway: "
            f"{_typical(best_for_money.to_gateway_s)} (now {_typical(now.to_gateway_s)})."
        )
    if comparison.clones < len(outcome.samples):
        words.append(f"Causes and changes are compared on the first {comparison.clones:,} clones.")
    return words


def _three(quantiles: Quantiles, shown: Callable[[float], str] = format_length) -> tuple[str, str, str]:
    return shown(quantiles.p50), shown(quantiles.p99), shown(quantiles.worst)


def _amount(currency: Currency, amount_minor: float) -> str:
    return currency.format(round(amount_minor)).removeprefix(f"{currency.code} ")


def _typical(quantiles: Quantiles) -> str:
    return f"p50 {format_length(quantiles.p50)}, p99 {format_length(quantiles.p99)}"


def _after(seconds: float) -> str:
    if seconds == 0:
        return "at once"
    return "never, until somebody carries the news" if seconds == inf else f"after {format_length(seconds)}"


def _percent(part: float) -> str:
    if 0 < part < 0.001:
        return "below 0.1 %"
    return f"{100 * part:.1f} %".replace(".0 %", " %")
