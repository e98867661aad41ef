"""Which zones talk to each other: same zone always; another zone only through couriers and gateways.

A zone is where devices can reach each other without help: a bar area behind its own access point. What lies between
zones is carried by couriers and collected by gateways, so a link across zones needs one of those at an end. Zones are
announced and can be claimed by anyone enrolled; they order traffic and protect nothing. Roles come from certificates.
"""

from __future__ import annotations

from typing import Final

from mesh.core.kinds import Role

ACROSS_ZONES: Final = frozenset({Role.COURIER, Role.GATEWAY})
"""The roles that link zones."""


def accepts_zone(own_zone: str, own_roles: frozenset[Role], peer_zone: str, peer_roles: frozenset[Role]) -> bool:
    """True if a link between these two nodes is wanted. Symmetric: both ends come to the same answer.

    >>> accepts_zone("north", frozenset({Role.READER}), "south", frozenset({Role.READER}))
    False
    >>> accepts_zone("north", frozenset({Role.READER}), "south", frozenset({Role.COURIER}))
    True
    """
    return own_zone == peer_zone or bool(ACROSS_ZONES & (own_roles | peer_roles))
