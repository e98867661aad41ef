"""What the doctor looks at on the device itself: identity, settings, stores, venue, clock, disk, libraries."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shutil
import ssl
import stat
import statistics
import time
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

import apsw

from mesh.core.kinds import Role
from mesh.errors import LocalError, StorageError, TapmeshError
from mesh.shell.damage import MARK_SUFFIX, own_damage_explained, replica_damage_explained
from mesh.shell.doctor import Check, Held, Outcome, Patient, from_error
from mesh.shell.enrolment import REQUEST_FILE
from mesh.shell.keys import CERTIFICATE_FILE, Identity
from mesh.shell.notice_lines import roles, roles_text
from mesh.shell.output import Json
from mesh.shell.program import clock_remark
from mesh.shell.settings import SETTINGS_FILE
from mesh.shell.store import OWN_FILE, REPLICA_FILE, Durability, RunStore

FREE_BYTES_MIN: Final = 256 * 1024 * 1024
"""A whole venue's night (about 104 MB), the write-ahead logs, and room to breathe."""
FREE_BYTES_GOOD: Final = 1024 * 1024 * 1024
FSYNC_MS_GOOD: Final = 15.0
"""Two of them are in every tap, and all of a tap's own work has 40 ms."""
FSYNC_MS_MAX: Final = 75.0
"""With a slower disk the median tap cannot stay under 200 ms."""
BEHIND_S_MAX: Final = 120.0
_FSYNC_TRIES: Final = 32
_FSYNC_BYTES: Final = 4096
_OFFLINE_ROLES: Final = (Role.READER, Role.TILL)
_DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9._-]+")


def identity(patient: Patient) -> list[Check]:
    """Keys, their permissions, certificate and root: whether they are there and belong together."""
    found = patient.identity
    directory = patient.directory
    if isinstance(found, Identity):
        certificate = found.certificate
        mode = stat.S_IMODE(directory.stat().st_mode)
        facts = {"name": certificate.name, "roles": roles(certificate), "serial": str(certificate.serial)}
        text = (
            f"{certificate.name} ({roles_text(certificate)}), fingerprint {certificate.fingerprint}, "
            f"venue {found.root.fingerprint}"
        )
        checks = [Check("identity", Outcome.GOOD, text, facts={**facts, "venue": found.root.venue_id.hex()})]
        if isinstance(patient.held, Held) and certificate.serial in patient.held.trust.revocations:
            said = (
                f"{certificate.name} was revoked by the venue's authority: nobody links to it, nothing it sells counts"
            )
            todo = "hand it to the venue's office; a device that takes its place needs new keys and another name"
            checks.append(Check("trust", Outcome.BAD, said, todo))
        if mode & 0o022:
            todo = f"chmod 700 {directory}"
            said = f"others on this machine may write to {directory} (mode {mode:04o})"
            checks.append(Check("permissions", Outcome.BAD, said, todo))
        return checks
    if (directory / REQUEST_FILE).exists() and not (directory / CERTIFICATE_FILE).exists():
        text = "this device has keys and no certificate yet"
        todo = f"'tapmesh join CODE --dir {directory}', or have the authority sign {directory / REQUEST_FILE}"
        return [Check("identity", Outcome.BAD, text, todo)]
    if not directory.exists():
        return [Check("identity", Outcome.BAD, f"{directory} is not there", f"tapmesh join CODE --dir {directory}")]
    return [from_error("identity", found)]


def settings(patient: Patient) -> list[Check]:
    """Whether programs can start with what is set."""
    found = patient.settings
    if isinstance(found, LocalError):
        return [from_error("settings", found)]
    zone = found.text("zone")
    held = patient.held
    document = held.document.document() if isinstance(held, Held) else None
    zones = () if document is None else document.zones
    facts: dict[str, Json] = {"zone": zone, "zones": list(zones)}
    if not patient.has_role(*Role) or patient.has_role(Role.SETTLEMENT):
        return [Check("settings", Outcome.GOOD, f"{len(found.values)} settings", facts=facts)]
    choice = f'write zone = "NAME" into {patient.directory / SETTINGS_FILE}; the venue has {", ".join(zones)}'
    if zone is None and len(zones) > 1:
        return [Check("settings", Outcome.BAD, "nobody said in which zone this device is", choice, facts)]
    if zone is not None and zones and zone not in zones:
        return [Check("settings", Outcome.BAD, f"zone {zone!r} is not in the venue document", choice, facts)]
    shown = zone or (zones[0] if zones else "any")
    return [Check("settings", Outcome.GOOD, f"zone {shown}", facts=facts)]


def stores(patient: Patient) -> list[Check]:
    """SQLite's own check of both files."""
    checks = []
    for name, explained in ((OWN_FILE, own_damage_explained), (REPLICA_FILE, replica_damage_explained)):
        path = patient.directory / name
        if path.with_name(name + MARK_SUFFIX).exists() and not path.exists():
            text = f"{name} is gone, and it held what this device sold"
            todo = "put it back, with the file that ends in -wal; until then this device must not sell"
            checks.append(Check(name, Outcome.BAD, text, todo, storage=True))
        if not path.exists():
            continue
        try:
            with explained(path), closing(RunStore(path, Durability.PROCESS, read_only=True)) as store:
                store.check()
                entries, size = store.size()
        except StorageError as error:
            checks.append(from_error(name, error))
        else:
            text = f"{entries} entries, {size / 1e6:.1f} MB, whole"
            checks.append(Check(name, Outcome.GOOD, text, facts={"file": name, "entries": entries, "bytes": size}))
    return checks


def venue(patient: Patient) -> list[Check]:
    """What must be here before doors: the venue document and the certificates of the others."""
    held = patient.held
    if isinstance(held, TapmeshError) or isinstance(patient.identity, TapmeshError):
        return []
    document = held.document.document()
    known = held.devices.all()
    facts: dict[str, Json] = {"devices_known": len(known), "logs_of": sorted(held.logs_of), "entries": held.entries}
    if document is None:
        sells = patient.has_role(*_OFFLINE_ROLES)
        text = f"no venue document: {held.document.problem()}" + (
            "; without it no tap is taken offline" if sells else ""
        )
        todo = (
            "let it sync with another device, or 'tapmesh device load STARTER' with a file of 'tapmesh venue starter'"
        )
        return [Check("venue", Outcome.BAD if sells else Outcome.REMARK, text, todo, facts)]
    cap = document.currency.format(document.per_tap_cap_minor)
    text = f"{document.name}: at most {cap} a tap, zones {', '.join(document.zones)}; {len(known)} devices known"
    if patient.identity.certificate.serial not in {certificate.serial for certificate in known}:
        todo = "'tapmesh device load STARTER' with a new file of 'tapmesh venue starter', or let it sync"
        said = f"{text}. What it holds is older than its own enrolment"
        return [Check("venue", Outcome.REMARK, said, todo, facts)]
    return [Check("venue", Outcome.GOOD, text, facts=facts)]


def peers_seen(patient: Patient) -> list[Check]:
    """Whose logs have arrived here so far."""
    held = patient.held
    if isinstance(held, TapmeshError):
        return []
    names = sorted(held.logs_of)
    text = f"logs of {len(names)} other devices are held here{': ' if names else ''}{', '.join(names[:8])}"
    return [Check("peers seen", Outcome.GOOD, text, facts={"names": names})]


def clock(patient: Patient) -> list[Check]:
    """A wrong clock costs no money and refuses nothing: this only informs."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(patient.now_s))
    facts = {"unix_s": patient.now_s}
    todo = "set it (timedatectl set-time), or let it be: money is not affected"
    remark = clock_remark(patient.now_s)
    if remark is not None:
        return [Check("clock", Outcome.REMARK, remark, todo, facts)]
    held = patient.held
    newest = held.newest if isinstance(held, Held) else None
    behind_s = 0.0 if newest is None else newest.time_ms / 1000 - patient.now_s
    if newest is not None and behind_s > BEHIND_S_MAX:
        text = f"{shown}; {newest.device!r} wrote an entry with a time that is {_span(behind_s)} later"
        said = "one of the two clocks is wrong: " + todo
        return [Check("clock", Outcome.REMARK, text, said, {**facts, "behind_s": round(behind_s)})]
    return [Check("clock", Outcome.GOOD, shown, facts=facts)]


def disk(patient: Patient) -> list[Check]:
    """Free space, and how long a commit takes here: measured, not guessed."""
    if not patient.directory.is_dir():
        return []
    free = shutil.disk_usage(patient.directory).free
    checks = [_space(free)]
    try:
        times_ms = measure_fsync(patient.directory)
    except OSError as error:
        said = f"{patient.directory} cannot be written to: {error.strerror}"
        return [*checks, Check("disk", Outcome.BAD, said, "check the disk and its permissions", storage=True)]
    median, worst = statistics.median(times_ms), max(times_ms)
    facts = {"fsync_ms_median": round(median, 2), "fsync_ms_max": round(worst, 2), "tries": len(times_ms)}
    text = f"an fsync of {_FSYNC_BYTES} bytes takes {median:.1f} ms (median of {len(times_ms)}; worst {worst:.1f} ms)"
    outcome = Outcome.GOOD if median <= FSYNC_MS_GOOD else Outcome.REMARK if median <= FSYNC_MS_MAX else Outcome.BAD
    todo = (
        None if outcome is Outcome.GOOD else "two are in every tap: use another card or disk, or stop what writes to it"
    )
    return [*checks, Check("disk", outcome, text, todo, facts, storage=outcome is Outcome.BAD)]


def _space(free: int) -> Check:
    text = f"{free / 1e9:.1f} GB free"
    outcome = Outcome.GOOD if free >= FREE_BYTES_GOOD else Outcome.REMARK if free >= FREE_BYTES_MIN else Outcome.BAD
    todo = None if outcome is Outcome.GOOD else "make room: a venue's whole night needs about 250 MB"
    return Check("space", outcome, text, todo, {"free_bytes": free}, storage=outcome is Outcome.BAD)


def measure_fsync(directory: Path) -> list[float]:
    """Milliseconds of each of some fsyncs of a file that grows by a page, as a write-ahead log does. Leaves nothing."""
    path = directory / f".doctor.{secrets.token_hex(8)}.partial"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        times_ms = []
        for _ in range(_FSYNC_TRIES):
            os.write(descriptor, secrets.token_bytes(_FSYNC_BYTES))
            began = time.perf_counter()
            os.fsync(descriptor)
            times_ms.append((time.perf_counter() - began) * 1000)
        return times_ms
    finally:
        os.close(descriptor)
        path.unlink()


def versions(patient: Patient) -> list[Check]:
    """This program and everything it stands on: whether all of it is there."""
    found: dict[str, str] = {
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "openssl": ssl.OPENSSL_VERSION,
    }
    missing = []
    try:
        found["tapmesh"] = version("tapmesh")
        needed = requires("tapmesh") or []
    except PackageNotFoundError:
        found["tapmesh"], needed = "run from its source tree", []
    for requirement in needed:
        match = _DISTRIBUTION.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        try:
            found[match[0]] = version(match[0])
        except PackageNotFoundError:
            missing.append(match[0])
    text = f"tapmesh {found['tapmesh']}, Python {found['python']}, SQLite {found['sqlite']}, {found['openssl']}"
    facts: dict[str, Json] = {"versions": found, "missing": missing}
    if missing:
        said = f"{text}; missing: {', '.join(missing)}"
        return [Check("versions", Outcome.BAD, said, "install the program again, with its dependencies", facts)]
    return [Check("versions", Outcome.GOOD, text, facts=facts)]


def running(patient: Patient) -> list[Check]:
    """Whether a program has the device open now."""
    process = patient.running
    text = "no program has this device open" if process is None else f"process {process} runs with this device"
    return [Check("running", Outcome.GOOD, text, facts={"process": process})]


def _span(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if days else f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min"
