"""What happens around a device's links, and what is done about it: the interface of :mod:`mesh.core.overlay`, as data.

A *link* is a number given by whoever carries the effects out; a *candidate* is a node's name, 16 hexadecimal digits
that discovery tells, or an address that a person gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# -- Events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Discovery tells of somebody, or tells again because something changed. `node` is the name its key gives it."""

    node: str
    zone: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Discovery says that somebody left."""

    node: str


@dataclass(frozen=True, slots=True)
class Linked:
    """A peer was let in. `candidate` is what was dialled, None if the peer came; `bridges` if its role links zones."""

    link: int
    node: str
    bridges: bool
    candidate: str | None


@dataclass(frozen=True, slots=True)
class Met:
    """The peer's hello was accepted; its zone is known now."""

    link: int
    zone: str


@dataclass(frozen=True, slots=True)
class InStep:
    """Both ends of a link hold the same."""

    link: int


@dataclass(frozen=True, slots=True)
class Parted:
    """A link ended; `blame_peer` if the peer broke a rule."""

    link: int
    blame_peer: bool = False


@dataclass(frozen=True, slots=True)
class DialFailed:
    """What was dialled did not become a link; `node` is who answered, if anybody did."""

    candidate: str
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""


Event: TypeAlias = Found | Lost | Linked | Met | InStep | Parted | DialFailed | Tick

# -- Effects -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    """Try a candidate; answered with :class:`Linked` or :class:`DialFailed`."""

    candidate: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Say goodbye on a link and end it; answered with :class:`Parted`."""

    link: int
    reason: str


Effect: TypeAlias = Dial | Drop
