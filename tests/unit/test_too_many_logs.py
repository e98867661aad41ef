"""A venue with more logs than a node holds: what is known goes on, and who relays the rest is blameless."""

from __future__ import annotations

from mesh.core.chain import parse_genesis
from mesh.core.events import Close, LinkUp, Note, Received
from mesh.core.kinds import Kind, Role
from mesh.core.messages import Hello, RunMessage, encode_message
from mesh.core.node import Node
from mesh.limits import LOGS_MAX
from tests.factory import LogWriter, Venue

LINK = 1


def test_author_whose_log_is_one_too_many_keeps_its_link() -> None:
    venue = Venue()
    bar, peer = venue.device("bar", Role.READER), venue.device("peer", Role.READER)
    node = Node(bar.certificate, venue.root, "north")
    known = LogWriter(peer)
    genesis = parse_genesis(known.entries[0], venue.root)
    for number in range(LOGS_MAX - 1):
        node.frontier.open_log(number.to_bytes(16, "big"), genesis)
    node.handle(LinkUp(LINK, peer.certificate), 0.0)
    node.handle(Received(LINK, encode_message(Hello(venue.root.venue_id, "north", bytes(32)))), 0.0)
    node.handle(Received(LINK, encode_message(RunMessage(*known.runs()[0]))), 0.0)

    one_too_many = LogWriter(peer, number=1)
    effects = node.handle(Received(LINK, encode_message(RunMessage(*one_too_many.runs()[0]))), 0.0)
    assert [effect for effect in effects if isinstance(effect, Note)]
    assert not [effect for effect in effects if isinstance(effect, Close)]
    known.append(Kind.ABORT, b"goes on")
    node.handle(Received(LINK, encode_message(RunMessage(*known.runs(1)[0]))), 0.0)
    assert node.frontier.logs[known.log_id].heads()[0].seq == 1
    assert LINK in node.links
