"""How long one signature takes behind the signer: a key file, and a key in SoftHSM where that is installed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mesh.core.entry import LOG_ID_BYTES, NO_PREV, entry_id
from mesh.core.kinds import Kind
from mesh.core.signing import Domain
from mesh.ports import Signer
from mesh.shell.enrolment import make_device
from mesh.shell.keys import load_log_signer
from mesh.shell.pkcs11_uri import TokenUri

SIGNATURES: Final = 2000
TAP_BODY: Final = bytes(272)
"""As long as a sale's body."""
RECORD: Final = bytes(42)


def microseconds(work: Callable[[], object]) -> dict[str, float]:
    taken = []
    for _ in range(SIGNATURES):
        began = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - began) / 1000)
    taken.sort()
    return {f"p{part}": round(taken[int(len(taken) * part / 100)], 1) for part in (50, 95, 99)}


def measure(signer: Signer) -> dict[str, dict[str, float]]:
    prev = signer.sign_entry(log_id=b"", seq=0, prev=NO_PREV, time_ms=0, kind=int(Kind.GENESIS), body=b"")
    log_id, seq = entry_id(prev)[:LOG_ID_BYTES], 0

    def entry() -> None:
        nonlocal prev, seq
        seq += 1
        kind = int(Kind.TAP)
        prev = signer.sign_entry(log_id=log_id, seq=seq, prev=entry_id(prev), time_ms=0, kind=kind, body=TAP_BODY)

    return {"entry_us": microseconds(entry), "seal_us": microseconds(lambda: signer.sign(Domain.CARD, RECORD))}


def soft_hsm(directory: Path) -> TokenUri | None:
    """A token of this run alone, or `None` without SoftHSM."""
    utility = shutil.which("softhsm2-util")
    libraries = sorted(Path("/usr/lib").glob("**/libsofthsm2.so"))
    if utility is None or not libraries:
        return None
    (directory / "tokens").mkdir()
    settings, pin = directory / "softhsm2.conf", directory / "pin"
    settings.write_text(f"directories.tokendir = {directory / 'tokens'}\n", encoding="utf-8")
    os.environ["SOFTHSM2_CONF"] = str(settings)
    pin.touch(mode=0o600)
    pin.write_text("493817\n", encoding="utf-8")
    arguments = ("--init-token", "--free", "--label", "bench", "--so-pin", "00000000", "--pin", "493817")
    subprocess.run([utility, *arguments], check=True, capture_output=True)
    return TokenUri(libraries[0], token="bench", pin_source=pin)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        make_device(directory / "file", "Bar A")
        result = {"key_file": measure(load_log_signer(directory / "file"))}
        token = soft_hsm(directory)
        if token is not None:
            make_device(directory / "token", "Bar B", token=token)
            result["soft_hsm"] = measure(load_log_signer(directory / "token"))
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cpus": os.cpu_count()}
    json.dump({"machine": machine, "signatures": SIGNATURES, **result}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
