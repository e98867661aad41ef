"""One run of one scenario and seed: the safety phase, the liveness phase, the checks, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mesh.testing.adversaries import let_in
from mesh.testing.checks import Violation, examine, unfinished
from mesh.testing.faults import Faults
from mesh.testing.people import Crowd
from mesh.testing.scenario import Scenario
from mesh.testing.world import World

LOOKS_EVERY_S: Final = 1.0
"""How often the liveness phase looks whether all have come together."""
DOORS_S: Final = 5.0
"""From switching on to the first order."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to. Equal runs have equal outcomes."""

    scenario: str
    seed: int
    trace_hash: str
    violations: tuple[Violation, ...]
    simulated_s: float
    together_after_s: float | None
    """From healing until everybody held the same."""
    events: int
    entries: int
    paid: int
    declined: dict[str, int]
    conflicts: int
    cards_copied: int
    fired: dict[str, int]
    open_taps: int
    copies: float
    """How often an entry was sent to a device, on average, for each time it was new there."""

    @property
    def holds(self) -> bool:
        """Whether nothing was violated."""
        return not self.violations


def play(
    scenario: Scenario,
    seed: int,
    *,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[float, World], None] | None = None,
    before: Callable[[World], None] = lambda world: None,
    after: Callable[[World], None] = lambda world: None,
) -> Outcome:
    """Run a scenario from a seed to its end, and examine it.

    `tell` gets every line of the trace, `progress` the share of the simulated time that is over, now and then; `before`
    may change the world before it is switched on, `after` when all is over and only the examination is left.
    """
    with World(scenario, seed, tell=tell) as world:
        crowd = Crowd(world, scenario.people)
        world.people = crowd
        let_in(world, crowd)
        before(world)
        world.switch_on()
        world.clock.at(DOORS_S, crowd.open_doors)
        Faults(world, crowd).schedule()
        _advance(world, scenario.duration_s, progress)
        crowd.close_doors()
        world.heal()
        world.clock.after(LOOKS_EVERY_S, crowd.last_round)
        _come_together(world, progress)
        after(world)
        return outcome_of(world)


def _advance(world: World, until_s: float, progress: Callable[[float, World], None] | None) -> None:
    whole = world.scenario.duration_s + world.scenario.settle_s
    while world.clock.now < until_s:
        world.clock.run_until(min(until_s, world.clock.now + max(1.0, whole / 200)))
        if progress is not None:
            progress(world.clock.now / whole, world)


def _come_together(world: World, progress: Callable[[float, World], None] | None) -> None:
    """Run until all have come together and stayed so for a look, or the scenario's time for that is over."""
    latest = world.clock.now + world.scenario.settle_s
    together = False
    while world.clock.now < latest:
        _advance(world, world.clock.now + LOOKS_EVERY_S, progress)
        if world.is_together():
            if together:
                world.together_at = world.clock.now
                return
            together = True
        else:
            together = False


def outcome_of(world: World) -> Outcome:
    """Examine a world that was run to its end."""
    violations = tuple(examine(world))
    accepted = sum(device.accepted for device in world.devices.values())
    conflicts = {card for cards in world.truth.surfaced.values() for card in cards}
    return Outcome(
        scenario=world.scenario.name,
        seed=world.seed,
        trace_hash=world.trace.hash,
        violations=violations,
        simulated_s=round(world.clock.now, 6),
        together_after_s=None if world.together_at is None else round(world.together_at - world.healed_at, 6),
        events=world.clock.happened,
        entries=sum(sum(map(len, d.storage.own.entry_ids().values())) for d in world.devices.values()),
        paid=len(world.truth.paid),
        declined=dict(sorted(world.truth.declined.items())),
        conflicts=len(conflicts),
        cards_copied=len(world.truth.copied_cards),
        fired=dict(sorted(world.fired.items())),
        open_taps=sum(unfinished(world).values()),
        copies=round(sum(world.truth.sent.values()) / accepted, 3) if accepted else 0.0,
    )
