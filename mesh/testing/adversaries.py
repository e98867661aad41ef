"""Devices that behave badly for a whole run."""

from __future__ import annotations

from mesh.testing.people import Crowd
from mesh.testing.world import World


def let_in(world: World, crowd: Crowd) -> None:
    """Make the scenario's adversaries a part of the world, before it is switched on."""
