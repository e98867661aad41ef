"""What `tapmesh sim` says about its runs: one JSON object for programs, or some lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from mesh.testing.run import Outcome
from mesh.testing.scenario import Scenario
from mesh.testing.scenario_text import as_toml
from mesh.testing.shrink import Shrunk
from mesh.testing.sweep import Played, replay_command

FORMAT: Final = "tapmesh-sim/1"


@dataclass(frozen=True, slots=True)
class Shown:
    """All that one command played."""

    named: str
    """The scenario as it was given: a packaged name or a file."""
    scenario: Scenario
    played: list[Played]
    real_s: float
    shrunk: Shrunk | None = None

    @property
    def failed(self) -> list[Played]:
        return [one for one in self.played if not one.holds]


# -- For programs ------------------------------------------------------------------------------------------------------


def as_json(shown: Shown) -> dict[str, Any]:
    """The object of `--json`; a key that is there once stays."""
    played = shown.played
    return {
        "format": FORMAT,
        "scenario": shown.scenario.name,
        "holds": not shown.failed,
        "seeds": {"first": played[0].seed, "last": played[-1].seed, "count": len(played)},
        "failed_seeds": [one.seed for one in shown.failed],
        "simulated_s": round(_simulated_s(played), 3),
        "real_s": round(shown.real_s, 3),
        "runs": [_run(shown.named, one) for one in played],
        "shrunk": None if shown.shrunk is None else _shrunk(shown.shrunk, shown.failed[0].seed),
    }


def _run(named: str, played: Played) -> dict[str, Any]:
    figures: dict[str, Any] = {one.name: None for one in fields(Outcome)}
    if played.outcome is not None:
        figures = asdict(played.outcome)
    violations = () if played.outcome is None else played.outcome.violations
    return {
        **figures,
        "seed": played.seed,
        "holds": played.holds,
        "violations": [{"check": one.check.value, "sentence": one.sentence} for one in violations],
        "program_error": played.program_error or None,
        "replay": replay_command(named, played.seed),
    }


def _shrunk(shrunk: Shrunk, seed: int) -> dict[str, Any]:
    return {
        "tried": shrunk.tried,
        "kept": list(shrunk.kept),
        "given_up": shrunk.given_up,
        "toml": _toml(shrunk, seed),
    }


def _simulated_s(played: list[Played]) -> float:
    return sum(one.outcome.simulated_s for one in played if one.outcome is not None)


# -- For people --------------------------------------------------------------------------------------------------------


def in_words(shown: Shown) -> Iterator[str]:
    """The lines that a person reads."""
    for one in shown.failed:
        yield f"{shown.named}, seed {one.seed}: not everything held"
        yield from (f"  {sentence}" for sentence in one.sentences())
        yield f"  Replay it: {replay_command(shown.named, one.seed)}"
        yield "  with --trace FILE to read all that happens, with --shrink to look for a smaller scenario that fails"
    [first, *others] = shown.played
    if others:
        yield from _many_in_words(shown)
    elif first.outcome is not None:
        if first.holds:
            yield f"{shown.named}, seed {first.seed}: every check holds"
        yield from _one_in_words(first.outcome, shown.real_s)


def _one_in_words(outcome: Outcome, real_s: float) -> Iterator[str]:
    together = outcome.together_after_s
    came = "never together after healing" if together is None else f"together {together:g} s after healing"
    yield f"  time        {outcome.simulated_s:g} s simulated in {real_s:.1f} s, {came}"
    yield f"  entries     {outcome.entries}, each sent {outcome.copies:g} times for each device where it was new"
    yield f"  orders      {outcome.paid} paid; declined: {_counts(outcome.declined)}; left open: {outcome.open_taps}"
    yield f"  wristbands  {outcome.cards_copied} copied or put back, {outcome.conflicts} in conflict"
    yield f"  went wrong  {_counts(outcome.fired)}"
    yield f"  trace       {outcome.trace_hash}, {outcome.events} events"


def _many_in_words(shown: Shown) -> Iterator[str]:
    played, failed = shown.played, shown.failed
    simulated_s = _simulated_s(played)
    outcomes = [one.outcome for one in played if one.outcome is not None]
    held = "every check holds in all of them" if not failed else f"{len(failed)} did not hold"
    yield f"{shown.named}, seeds {played[0].seed} to {played[-1].seed}: {held}"
    a_second = simulated_s / max(shown.real_s, 0.001)
    yield f"  {simulated_s:,.0f} s simulated in {shown.real_s:.1f} s, {a_second:,.0f} a second"
    paid, entries = sum(one.paid for one in outcomes), sum(one.entries for one in outcomes)
    conflicts = sum(one.conflicts for one in outcomes)
    yield f"  {paid:,} orders paid, {entries:,} entries, {conflicts:,} wristbands in conflict"
    if failed:
        yield f"  failed: {', '.join(str(one.seed) for one in failed)}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "nothing"


def shrunk_text(shrunk: Shrunk, failed: Played) -> str:
    """A smaller scenario as a TOML file, whose comments say what it is and how to play it."""
    end = "the bound of runs ended the search; --tries allows more" if shrunk.given_up else "nothing more could go"
    lines = [
        f"Breaks {', '.join(sorted(failed.broken))} with seed {failed.seed}. Saved as smaller.toml, it is played by",
        f"    {replay_command('smaller.toml', failed.seed)}",
        f"Found in {shrunk.tried} runs ({end}). Made smaller: {'; '.join(shrunk.kept) or 'nothing'}.",
    ]
    return "\n".join([*(f"# {line}" for line in lines), "", _toml(shrunk, failed.seed)])


def _toml(shrunk: Shrunk, seed: int) -> str:
    # The name stays: chance is drawn from the name and the seed.
    return as_toml(replace(shrunk.scenario, seed=seed))
