"""An outcome for people: a table, the plot, and what it means in plain words."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from mesh.planning.changes import Comparison, Effect
from mesh.planning.figures import CloneFigures, Quantiles
from mesh.planning.outcome import Outcome, warnings
from mesh.planning.plan import Plan, format_length
from mesh.planning.plot import terminal_plot
from mesh.planning.settle import WINDOW_S

_NARROW_COLUMNS = 76


def show(outcome: Outcome, console: Console) -> None:
    """Print everything, as wide as the console is."""
    for part in (_about(outcome), _clone_table(outcome, console.width), _money_table(outcome)):
        console.print(part)
    if console.options.ascii_only:
        console.print("This terminal shows no plot (its encoding has ASCII only): --plot FILE.svg writes one.")
    else:
        colours = console.color_system is not None
        console.print(Text.from_ansi(terminal_plot(outcome, console.width, colours=colours)), no_wrap=True, crop=False)
    console.print()
    for sentence in in_words(outcome):
        console.print(sentence, highlight=False, markup=False)


def in_words(outcome: Outcome) -> list[str]:
    """What the figures mean and what one change would help most, a paragraph each."""
    return [
        _clone_words(outcome),
        _money_words(outcome),
        _cause_words(outcome.comparison),
        *_change_words(outcome.plan, outcome.comparison),
        *warnings(outcome.plan),
    ]


def _about(outcome: Outcome) -> RenderableType:
    plan = outcome.plan
    online = [zone.name for zone in plan.zones if plan.is_online(zone.name)]
    offline = [zone.name for zone in plan.zones if zone.name not in online]
    parts = [f"{plan.readers} readers in {len(plan.zones)} zones"]
    parts += [f"on a network with a gateway: {', '.join(online)}"] if online else []
    parts += [f"on none: {', '.join(offline)}"] if offline else []
    parts += [f"couriers: {len(plan.couriers)}", f"{len(outcome.samples):,} clones, seed {outcome.seed}"]
    return Text("; ".join(parts))


def _clone_table(outcome: Outcome, columns: int) -> Table:
    classes = outcome.classes
    table = Table(title="A clone, from when its copy is first shown", title_justify="left", pad_edge=False)
    table.add_column("")
    narrow = columns < _NARROW_COLUMNS
    groups = {"all clones": classes.overall, "same zone": classes.same_zone, "across zones": classes.across_zones}
    for name, figures in groups.items():
        if figures is not None and not (narrow and figures is not classes.overall):
            table.add_column(f"{name}\np50 / p99 / worst", justify="right")
    shown = [figures for figures in groups.values() if figures is not None][: 1 if narrow else 3]
    currency = outcome.plan.currency

    def amounts(figures: CloneFigures) -> str:
        return _three(figures.spent_minor, lambda value: currency.format(round(value))[len(currency.code) + 1 :])

    table.add_row("refused at once", *(f"{100 * figures.refused_at_once:.0f} %" for figures in shown))
    table.add_row("refused at one of the two bars", *(_three(figures.first_bar_s) for figures in shown))
    table.add_row("refused at both bars", *(_three(figures.both_bars_s) for figures in shown))
    table.add_row("refused at every reader", *(_three(figures.every_reader_s) for figures in shown))
    table.add_row("taps it could make", *(_three(figures.taps, lambda value: f"{value:.0f}") for figures in shown))
    table.add_row(f"it could spend, {currency.code}", *(amounts(figures) for figures in shown))
    return table


def _money_table(outcome: Outcome) -> Table:
    money = outcome.money
    table = Table(title="Money, from the tap", title_justify="left", pad_edge=False)
    table.add_column("")
    table.add_column("p50 / p99 / worst", justify="right")
    table.add_column(f"still to come, of the last {format_length(WINDOW_S)}", justify="right")
    currency = outcome.plan.currency
    gateway = f"{_percent(money.not_at_gateway)} ({currency.format(money.not_at_gateway_minor)})"
    alone = f"{_percent(money.on_one_device)} ({currency.format(money.on_one_device_minor)})"
    table.add_row("at a gateway", _three(money.to_gateway_s), gateway)
    table.add_row("on a second device", _three(money.second_copy_s), alone)
    return table


def _clone_words(outcome: Outcome) -> str:
    figures, currency = outcome.classes.overall, outcome.plan.currency
    words = f"Half of the clones are refused at every reader {_after(figures.every_reader_s.p50)}"
    words += f", 99 of 100 {_after(figures.every_reader_s.p99)}. "
    if figures.never_everywhere > 0:
        words += f"{_percent(figures.never_everywhere)} never are, until somebody carries it. "
    if figures.spent_minor.p99 == 0:
        return words + "Not one of 100 gets to spend anything."
    spent = currency.format(round(figures.spent_minor.p99))
    words += f"Until then a thief who always picks the right bar spends up to {spent} with the copy (99 of 100)"
    if figures.spent_minor.p50 == outcome.plan.money.balance_minor:
        return words + ", which is the whole wristband even in the median: only its balance bounds the loss."
    return words + f", and {currency.format(round(figures.spent_minor.p50))} in the median."


def _money_words(outcome: Outcome) -> str:
    money, currency = outcome.money, outcome.plan.currency
    words = (
        f"Half of the money is at a gateway {_after(money.to_gateway_s.p50)}, 99 % {_after(money.to_gateway_s.p99)}. "
    )
    words += f"At the peak, bars take {currency.format(money.hour_minor)} an hour; at any moment "
    words += f"{currency.format(money.on_one_device_minor)} of that is on one device only and would be lost with it."
    return words


def _cause_words(comparison: Comparison) -> str:
    cause = comparison.main_cause
    if cause is None:
        return "Nothing holds news up for long: what is left is gossip, and the walk between bars."
    before, after = comparison.as_planned.every_reader_s.p99, cause.every_reader_s.p99
    words = f"What dominates is {cause.text}: without it"
    if before == after:
        mean_before, mean_after = comparison.as_planned.every_reader_mean_s, cause.every_reader_mean_s
        return f"{words} clones are refused everywhere {format_length(mean_before - mean_after)} sooner on average."
    return f"{words} 99 of 100 clones are refused everywhere {_after(after)}, not {_after(before)}."


def _change_words(plan: Plan, comparison: Comparison) -> list[str]:
    best, best_for_money = comparison.best_change, comparison.best_for_money
    words = []
    if best is not None:
        words.append(f"Against clones, one change helps most: {best.text}. {_effect_words(plan, comparison, best)}")
        others = [effect for effect in comparison.changes if effect is not best and comparison.helps_clones(effect)]
        if others:
            listed = "; ".join(f"{effect.text} ({_three(effect.every_reader_s)})" for effect in others[:3])
            words.append(f"Next best (refused at every reader, p50 / p99 / worst): {listed}.")
    elif comparison.changes:
        words.append("None of the changes tried (one more courier, faster rounds, networks, shorter outages) helps.")
    if best_for_money is not None and best_for_money is not best:
        late = f"99 % of it is there {_after(best_for_money.to_gateway_s.p99)}"
        before = _after(comparison.as_planned.to_gateway_s.p99)
        words.append(f"For money, one change helps most: {best_for_money.text}. Then {late}, not {before}.")
    return words


def _effect_words(plan: Plan, comparison: Comparison, effect: Effect) -> str:
    before = comparison.as_planned
    everywhere = f"refused everywhere {_three(effect.every_reader_s)} instead of {_three(before.every_reader_s)}"
    settled = f"money at a gateway {_three(effect.to_gateway_s)} instead of {_three(before.to_gateway_s)}"
    spent, spent_before = effect.spent_minor.p99, before.spent_minor.p99
    money = "the same" if spent == spent_before else f"not {plan.currency.format(round(spent_before))}"
    copy = f"the copy spends {plan.currency.format(round(spent))} (p99), {money}"
    return f"Then (p50 / p99 / worst): {everywhere}; {settled}; {copy}."


def _three(quantiles: Quantiles, shown: Callable[[float], str] = format_length) -> str:
    return " / ".join(map(shown, (quantiles.p50, quantiles.p99, quantiles.worst)))


def _after(seconds: float) -> str:
    match seconds:
        case 0:
            return "at once"
        case float() if seconds == float("inf"):
            return "never, until somebody carries it"
        case _:
            return f"after {format_length(seconds)}"


def _percent(part: float) -> str:
    if 0 < part < 0.001:
        return "below 0.1 %"
    return f"{100 * part:.1f} %".replace(".0 %", " %")
