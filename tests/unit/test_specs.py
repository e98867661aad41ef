"""The numbers in the specifications are the bounds of the code, and every vector file they name is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from mesh import limits
from mesh.core import bundle_key, frontier, gossip, kinds, messages, overlay, revocation

SPECS: Final = Path(__file__).resolve().parents[2] / "docs" / "spec"

STATED: Final = {
    "overlay.md": (
        f"| links wanted in the own zone, whoever dialled | {overlay.LINKS_WANTED} |",
        f"| of these, dialled by the device itself | {overlay.LINKS_WANTED // 2} |",
        f"| most in the own zone, of those that are counted | {2 * overlay.LINKS_WANTED} |",
        f"that are not bound to one | {overlay.LINKS_ACROSS_WANTED} |",
        f"| most links of any kind | {limits.LINKS_MAX} |",
        f"| dials under way at once | {limits.DIALS_MAX} |",
        f"| candidates that are followed | {limits.DISCOVERED_NAMES_MAX} |",
        f"In the first {overlay.SETTLE_S:.0f} s after a start",
        f"within {overlay.SPREAD_S / 4:.2f} s, others within {overlay.SPREAD_S} s",
        f"the larger waits {overlay.LARGER_WAITS_S} s",
        f"at most {overlay.RETRY_S_MAX:.0f} s ({overlay.RETRY_LACKING_S_MAX:.0f} s where",
        f"at most {overlay.ZONE_PAUSE_S_MAX:.0f} s. Both",
        f"given up after {limits.DIAL_S_MAX:.0f} s; after {overlay.SLOW_DIAL_S:.0f} s another",
        f"is not dialled for {limits.REFUSED_PEER_S:.0f} s",
        f"not linked in the last {overlay.RECENT_S:.0f} s",
        f"Every {overlay.ROTATE_S:.0f} s, give or take half",
        f"tried again after {overlay.ROTATE_AGAIN_S:.0f} s",
    ),
    "entry.md": (
        f"nested at most {limits.CBOR_DEPTH_MAX} deep",
        f"seq:     0..{limits.ENTRY_SEQ_MAX},",
        f"time-ms: 0..{limits.TIME_MS_MAX},",
        f"kind:    0..{limits.ENTRY_KIND_MAX},",
        f"body:    bytes .size (0..{limits.ENTRY_BODY_BYTES_MAX})",
        f"certificate: bytes .size (1..{limits.CERTIFICATE_BYTES_MAX})",
        f"[*{limits.KNOWN_HEADS_MAX} known-head]",
        f"amount:    0..{limits.AMOUNT_MINOR_MAX}",
        f"operation: 0..{max(kinds.Operation):d}",
        f"witness:   bytes .size (0..{limits.CARD_SLOT_BYTES_MAX})",
        f"one to {limits.RUN_ENTRIES_MAX} consecutive",
        f"at most {limits.RUN_BYTES_MAX:,} bytes",
        *(f"| {kind:d} |" for kind in kinds.Kind),
    ),
    "wire.md": (
        f"At most {limits.FRAME_BYTES_MAX:,} bytes",
        f"at most {limits.HELLO_FRAME_BYTES_MAX:,} until",
        f"zone: at most {limits.ZONE_CHARS_MAX} characters",
        f"[{limits.BUCKETS_COUNT}*{limits.BUCKETS_COUNT} bytes .size {frontier.DIGEST_BYTES}]",
        f"[*{limits.FRONTIER_LOGS_PER_FRAME_MAX} summary]",
        f"[*{limits.LOCATOR_IDS_MAX} position]",
        f"[*{limits.ANNOUNCE_LOGS_PER_FRAME_MAX} [log-id",
        f"at most {messages.BYE_CHARS_MAX} characters",
        f"together at most {limits.BRANCHES_PER_LOG_MAX}",
        f"{limits.LOGS_MAX:,} logs",
        f"({limits.LINK_SILENCE_S_MAX:.0f} s without",
        f"Every {limits.KEEPALIVE_S:g} s",
        f"for {limits.WANT_RETRY_S:.0f} s, it moves",
        f"at most {gossip.WANTS_IN_FLIGHT_PER_LINK} are open",
        f"more than {limits.WANTS_IN_FLIGHT_PER_LINK_MAX:,} is closed",
    ),
    "revocation.md": (
        f"number:    1..{limits.REVOCATION_NUMBER_MAX},",
        f"[*{limits.REVOCATION_CUT_LOGS_MAX} place]",
        f"generation: 1..{limits.BUNDLE_GENERATION_MAX},",
        f"[*{limits.BUNDLE_BOXES_PER_ENTRY_MAX} [serial",
        f"box: bytes .size {bundle_key.BOX_BYTES}]",
        f'"{revocation.STATEMENT_DOMAIN.decode()}"',
        f'"{bundle_key.KEY_ID_DOMAIN.decode()}"',
    ),
    "evidence.md": (
        f"at most {limits.ENTRY_BODY_BYTES_MAX:,} bytes",
        f"entry      = bytes .size (65..{limits.ENTRY_BYTES_MAX})",
        f"a file; at most {limits.CASE_BYTES_MAX:,} bytes",
        f"[2*{limits.BRANCHES_PER_LOG_MAX} witness]",
    ),
}


@pytest.mark.parametrize("name", STATED)
def test_specification_states_the_bounds_that_the_code_has(name: str) -> None:
    text = (SPECS / name).read_text(encoding="utf-8")
    assert [stated for stated in STATED[name] if stated not in text] == []


@pytest.mark.parametrize("name", STATED)
def test_files_that_a_specification_names_exist(name: str) -> None:
    text = (SPECS / name).read_text(encoding="utf-8")
    tree = SPECS.parents[1]
    named = re.findall(r"`((?:tests|mesh|experiments)/[^`]*?)/?`", text)
    assert named
    assert [path for path in named if not (tree / path).exists()] == []


@pytest.mark.parametrize("kind", messages.Type)
def test_every_message_type_has_its_line_in_the_wire_specification(kind: messages.Type) -> None:
    assert f"= [{kind:d}, " in (SPECS / "wire.md").read_text(encoding="utf-8")
