"""Every view that a device keeps, and which of them an entry of which lane and kind goes to.

One dispatch for whoever folds (a device, a start from the disk, the simulator): a new kind is a new line here.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from mesh.core.certificate import VenueRoot
from mesh.core.chain import Genesis, Run
from mesh.core.kinds import Kind, Lane, Role
from mesh.views.bundle_keys import BundleKeysView
from mesh.views.cards import CardsView, Sharing
from mesh.views.devices import DevicesView
from mesh.views.receipts import ReceiptsView
from mesh.views.trust import TrustView
from mesh.views.venue_document import VenueDocumentView


class Views:
    """What the merged logs mean, as far as they are held."""

    def __init__(
        self, root: VenueRoot, sharing: Sharing | None = None, *, own_logs: AbstractSet[bytes] = frozenset()
    ) -> None:
        """`own_logs` are those that receipts are looked at for; the set is watched, not copied."""
        self.trust = TrustView()
        self.cards = CardsView(self.trust, sharing)
        self.venue = VenueDocumentView(self.trust)
        self.devices = DevicesView(root)
        self.bundle_keys = BundleKeysView(self.trust)
        self.receipts = ReceiptsView(root, own_logs)

    def fold(self, run: Run, genesis: Genesis, contested_from: int | None) -> list[bytes]:
        """Fold one run; returns the cards that have a conflict now and had none before.

        `contested_from` is what the node says of this log so far (:attr:`mesh.core.node.Node.contested_from`).
        """
        if run.first_seq == 0:
            self.cards.open_log(run.log_id, genesis)  # which also tells the view of trust
            self.devices.add(genesis.certificate)
            if contested_from is not None:
                self.cards.contest(run.log_id, contested_from)
        if genesis.lane is Lane.MONEY:
            return self.cards.fold(run)
        self.trust.fold(run)
        if genesis.lane is Lane.CONTROL:
            self._fold_control(run, genesis)
        return []

    def _fold_control(self, run: Run, genesis: Genesis) -> None:
        for seq, (fields, identifier) in enumerate(zip(run.fields, run.ids, strict=True), run.first_seq):
            body = fields[6]
            assert isinstance(body, bytes)
            match fields[5]:
                case Kind.VENUE_CHANGE:
                    self.venue.fold(run.log_id, seq, identifier, genesis.certificate.roles, body)
                case Kind.RECEIPT:
                    self.receipts.fold(body)
                case Kind.BUNDLE_KEY:
                    self.bundle_keys.fold(run.log_id, seq, identifier, genesis.certificate.roles, body)
                case Kind.DEVICE if Role.MANAGER in genesis.certificate.roles:
                    self.devices.fold(body)
