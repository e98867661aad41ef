"""The page of join codes for the printer: one self-contained HTML file, a card for each device, QR code and text.

Whoever has the page can join as these devices until they did: it is written for its owner's eyes only (0600), and the
codes on it are good once.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Final

import segno

from mesh.core.join import Place
from mesh.core.join_code import JoinCode

_QR_BORDER: Final = 4
"""Modules of white around the code (ISO/IEC 18004, 9.1)."""

_STYLE: Final = """
body { font: 11pt/1.35 system-ui, sans-serif; margin: 12mm; color: #000; background: #fff; }
h1 { font-size: 16pt; margin: 0 0 2mm; }
ol { list-style: none; margin: 6mm 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4mm; }
li { width: 84mm; border: 0.3mm dashed #666; padding: 3mm; display: flex; gap: 3mm; break-inside: avoid; }
svg { width: 32mm; height: 32mm; flex: none; }
strong { display: block; font-size: 13pt; }
code { display: block; margin-top: 2mm; font: 10.5pt/1.5 ui-monospace, monospace; }
"""


def codes_page(venue: str, fingerprint: str, codes: Sequence[tuple[Place, JoinCode]]) -> str:
    """The page for these places, in their order."""
    cards = "\n".join(_card(place, code) for place, code in codes)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Join codes: {_text(venue)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_text(venue)}: join codes</h1>\n"
        f"<p>Venue fingerprint {_text(fingerprint)}. Each code is good for one device, once. On the device: "
        f"<b>tapmesh join CODE</b>. Keep this page like a bunch of keys, and burn it when all have joined.</p>\n"
        f"<ol>\n{cards}\n</ol>\n</body>\n</html>\n"
    )


def _card(place: Place, code: JoinCode) -> str:
    # Alphanumeric mode: upper case, digits and dashes, so the code stays small and a hand scanner types it as it is.
    drawn = segno.make(str(code), error="q", micro=False)
    svg = drawn.svg_inline(border=_QR_BORDER, omitsize=True)
    what = ", ".join(sorted(role.value for role in place.roles))
    where = f" in {place.zone}" if place.zone else ""
    shown = "<br>".join(_text(part) for part in _halves(str(code)))
    return f"<li>{svg}<div><strong>{_text(place.name)}</strong>{_text(what + where)}<code>{shown}</code></div></li>"


def _halves(code: str) -> tuple[str, str]:
    """Two lines that fit a card: three groups and two."""
    groups = code.split("-")
    return "-".join(groups[:3]) + "-", "-".join(groups[3:])


def _text(text: str) -> str:
    return html.escape(text, quote=True)
