"""Adversaries that break a rule of the protocol, an act at a time: the rule breaker, and the puppet with a good signer.

Whoever is sent what no honest peer sends has to hang up: nothing else keeps what comes over links in bounds. So each
act is looked at again some seconds later, and a link that is still there is written down
(:class:`mesh.testing.world.Truth`, `let_pass`). What the victim thinks of its own rules is not asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Final

from mesh.core.chain import NONCE_BYTES, encode_genesis
from mesh.core.entry import (
    ID_BYTES,
    LOG_ID_BYTES,
    NO_PREV,
    SIGNATURE_BYTES,
    SIGNATURE_DOMAIN,
    encode_payload,
    entry_id,
)
from mesh.core.events import Serve
from mesh.core.frontier import Position, Segment
from mesh.core.issue import issue_device
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import Hello, Want, encode_message
from mesh.core.signing import RefusedToSign
from mesh.limits import WANTS_IN_FLIGHT_PER_LINK_MAX
from mesh.testing.adversaries.crooked import Crooked
from mesh.testing.network import End
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.venue import VenueDevice, strangers_root
from mesh.testing.world import World

ACTS_EVERY_S: Final = (1.0, 4.0)
OPENING_LIES: Final = 0.4
"""Share of the links that begin with something else than this venue's hello."""
GRACE_S: Final = 8.0
"""So long after it was said, what breaks a rule has arrived, over any link that still works."""
LARGE_FRAME_BYTES: Final = 100_000
UNKNOWN_KIND: Final = 4711
BRIDGES: Final = frozenset({Role.COURIER, Role.GATEWAY})
"""Who links zones; said here once more because the rule itself is what is tried."""
PUPPET_EVERY_S: Final = (2.0, 8.0)


class RuleBreaker(Crooked):
    """Sends what no honest peer sends, an act at a time, and is back a little after it was hung up on."""

    kind = Adversary.RULE_BREAKER

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self._openings: dict[int, bytes] = {}
        """What is said instead of a hello, by link; afterwards nothing is said on it."""
        self._mute: set[int] = set()
        self._tried: set[int] = set()
        """Links on which an act waits for its answer: a second one would be answered for both."""
        self._unasked: dict[int, bytes] = {}
        """The log that was last sent over a link though nobody had asked for it there."""
        self._wanted: set[tuple[int, bytes | None]] = set()
        """Logs that a peer asked for on a link."""
        self._acts: tuple[Callable[[End], str], ...] = (
            self._exchanged_entry,
            self._gap,
            self._unsigned_tip,
            self._long_form,
            self._trailing_byte,
            self._stranger,
            self._want_storm,
            self._unwanted_run,
        )

    def start(self) -> None:
        super().start()
        self.now_and_then(ACTS_EVERY_S, self._act)

    def _act(self) -> None:
        links = [number for number in self.live_links() if number not in self._mute | self._tried]
        if links:
            end = self.links[self.tricks.choice(links)].end
            self._tried.add(end.number)
            rule = self.tricks.choice(self._acts)(end)
            if rule:
                self._broke(end, rule)
            else:
                self._tried.discard(end.number)

    def _broke(self, end: End, rule: str) -> None:
        """A rule was broken on a link: look some seconds later whether the other end let it pass."""
        self.did()

        def look() -> None:
            link = self.links.get(end.number)
            if end.on_wire or (link is not None and link.outbox.frames):
                # A storm of wants over a slow link: what came behind it is not there yet.
                self.world.clock.after(GRACE_S, look)
                return
            self._tried.discard(end.number)
            victim = self.venue.devices[end.other.owner]
            unheard = end.silent or end.connection.broken or not end.up or not end.other.up
            asked_meanwhile = (end.number, self._unasked.get(end.number)) in self._wanted
            if victim.is_honest and not unheard and not asked_meanwhile:
                self.venue.truth.let_pass.append((victim.name, self.name, rule))

        self.world.clock.after(GRACE_S, look)

    # -- The beginning of a link -----------------------------------------------------------------------------------

    def link_up(self, end: End) -> None:
        if self.tricks.random() < OPENING_LIES and not self.venue.healing:
            rule, said = self._opening(end)
            if rule:
                self._openings[end.number] = said
                self._broke(end, rule)
        super().link_up(end)

    def _opening(self, end: End) -> tuple[str, bytes]:
        nothing = bytes(ID_BYTES)
        match self.tricks.randrange(3):
            case 0:
                other = Hello(self.tricks.randbytes(len(self.root.venue_id)), self.node.zone, nothing)
                return "says hello for another venue", encode_message(other)
            case 1:
                return "begins with a frame larger than any hello", LARGE_FRAME_BYTES.to_bytes(4, "big") + bytes(64)
            case _ if not end.peer.roles & BRIDGES:
                elsewhere = encode_message(Hello(self.root.venue_id, "elsewhere", nothing))
                return "says hello from another zone", elsewhere
            case _:
                return "", b""

    def _send(self, number: int, data: bytes) -> None:
        opening = self._openings.pop(number, None)
        if opening is not None:
            self._mute.add(number)
            super()._send(number, opening)
        elif number not in self._mute:
            super()._send(number, data)

    # -- Runs ------------------------------------------------------------------------------------------------------

    def _fresh_log(self, entries: int = 4) -> list[bytes]:
        genesis = encode_genesis(self.enrolled.certificate.der, self.tricks.randbytes(NONCE_BYTES), Lane.TELEMETRY, [])
        return self.sign_chain(None, b"", [(Kind.GENESIS, genesis), *(self._nothing() for _ in range(entries - 1))])

    def _nothing(self) -> tuple[Kind, bytes]:
        """An entry that nobody makes anything of."""
        return Kind.VENUE_CHANGE, self.tricks.randbytes(24)

    def _push(self, end: End, entries: list[bytes]) -> None:
        self.push(end.number, entry_id(entries[0])[:LOG_ID_BYTES], entries)

    def _exchanged_entry(self, end: End) -> str:
        entries = self._fresh_log()
        before = Position(1, entry_id(entries[1]))
        (entries[2],) = self.sign_chain(before, entry_id(entries[0])[:LOG_ID_BYTES], [self._nothing()])
        self._push(end, entries)
        return "exchanged an entry under the one that follows it"

    def _gap(self, end: End) -> str:
        entries = self._fresh_log()
        self._push(end, [*entries[:2], entries[3]])
        return "left an entry out"

    def _unsigned_tip(self, end: End) -> str:
        entries = self._fresh_log()
        entries[-1] = entries[-1][:-SIGNATURE_BYTES] + self.tricks.randbytes(SIGNATURE_BYTES)
        self._push(end, entries)
        return "sent a run whose last entry nobody signed"

    def _long_form(self, end: End) -> str:
        """The last entry says its version in two bytes where one will do: the same value, another id."""
        entries = self._fresh_log()
        log_id, prev = entry_id(entries[0])[:LOG_ID_BYTES], entry_id(entries[-1])
        payload = encode_payload(
            log_id=log_id, seq=4, prev=prev, time_ms=self.wall_ms(), kind=UNKNOWN_KIND, body=b"long"
        )
        self._push(end, [*entries, self._signed(payload[:1] + b"\x18" + payload[1:])])
        return "encoded an entry in another way than the one"

    def _trailing_byte(self, end: End) -> str:
        entries = self._fresh_log(2)
        log_id, prev = entry_id(entries[0])[:LOG_ID_BYTES], entry_id(entries[-1])
        payload = encode_payload(
            log_id=log_id, seq=2, prev=prev, time_ms=self.wall_ms(), kind=UNKNOWN_KIND, body=b"more"
        )
        self._push(end, [*entries, self._signed(payload + b"\x00")])
        return "put a byte behind an entry"

    def _signed(self, payload: bytes) -> bytes:
        return payload + self.enrolled.sign_anything(SIGNATURE_DOMAIN + payload)

    def _stranger(self, end: End) -> str:
        """A log whose genesis names a certificate by an authority of the same name: a till, no less."""
        key, root = strangers_root(self.venue.venue.name)
        own = self.enrolled.certificate
        certificate = issue_device(
            key,
            root,
            name="stranger",
            link_key=self.enrolled.link_key.public_key().public_bytes_raw(),
            log_key=own.log_key,
            roles=frozenset({Role.TILL, Role.READER}),
            serial=1 + self.tricks.getrandbits(64),
        )
        genesis = encode_genesis(certificate.der, self.tricks.randbytes(NONCE_BYTES), Lane.MONEY, [])
        self._push(end, self.sign_chain(None, b"", [(Kind.GENESIS, genesis), self._nothing()]))
        return "opened a log of somebody whom another authority enrolled"

    # -- Wants, and runs against none ------------------------------------------------------------------------------

    def _want_storm(self, end: End) -> str:
        log = max(self.node.frontier.logs.values(), key=lambda log: (max(log.heads()).seq, log.log_id))
        wants = [encode_message(Want(log.log_id, max(log.heads()), ()))] * (3 * WANTS_IN_FLIGHT_PER_LINK_MAX)
        self._send(end.number, b"".join(wants))
        self.did()
        return ""  # how many of them were open at once only the victim knows

    def _serve(self, number: int, effect: Serve) -> None:
        if not effect.pushed:
            self._wanted.add((number, effect.log_id))
        super()._serve(number, effect)

    def _unwanted_run(self, end: End) -> str:
        """A piece of somebody else's log that the peer has never asked for, and does not ask for meanwhile."""
        others = [
            log.log_id
            for log in self.storage.replica.logs()
            if (end.number, log.log_id) not in self._wanted and 0 in {branch.number for branch in log.branches}
        ]
        if not others:
            return ""
        log_id = self.tricks.choice(sorted(others))
        entries = self.storage.replica.read_entries(log_id, Segment(0, 0, 0))
        self.push(end.number, log_id, entries)
        self._unasked[end.number] = log_id
        return "sent a run that nobody asked for"


class Puppet(Crooked):
    """Its program is in somebody's hands, its key is not: that lies behind a signer which remembers.

    It asks for a second entry at the seq that was signed last, again and again, and shows peers whatever it gets. The
    signer refuses; so the device stays honest in law, and nobody has anything against it.
    """

    kind = Adversary.PUPPET

    def start(self) -> None:
        super().start()
        self.now_and_then(PUPPET_EVERY_S, self._ask_again)

    def _ask_again(self) -> None:
        links, money = self.live_links(), self.money_head()
        if self._appending or not links or money is None or money[1].seq == 0:
            return
        log_id, head = money
        chain = self.storage.own.read_entries(log_id, Segment(0, 0, head.seq - 1))
        prev = entry_id(chain[-1]) if chain else NO_PREV
        self.did()
        try:
            rival = self._sign(log_id, head.seq, prev, Kind.VENUE_CHANGE, self.tricks.randbytes(24))
        except RefusedToSign:
            return
        for number in links:
            self.world.clock.after(0, partial(self.push, number, log_id, [*chain, rival]))
