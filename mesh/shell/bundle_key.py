"""What a manager's device does about the bundle key, and how any device gets at its own copy.

The private half stays in the device's link key file: the box is for the X25519 key that belongs to it (docs/adr/0073).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.bundle_key import (
    KEY_BYTES,
    SEED_BYTES,
    KeyName,
    encode_sealed_keys,
    key_id,
    open_box,
    seal_for,
)
from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Kind, Lane
from mesh.errors import LocalError, PeerError
from mesh.limits import BUNDLE_BOXES_PER_ENTRY_MAX, BUNDLE_GENERATION_MAX
from mesh.shell.device import Device
from mesh.shell.keys import LINK_KEY_FILE, Identity, load_private_key
from mesh.views.bundle_keys import BundleKeysView


class GenerationsUsedUp(LocalError):
    """The venue's bundle key was rotated as often as its number allows; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """A new generation of the bundle key: who can open it, and enrolled devices for which nothing could be sealed."""

    name: KeyName
    holders: tuple[str, ...]
    left_out: tuple[str, ...]


def open_keys(identity: Identity, view: BundleKeysView) -> dict[KeyName, bytes]:
    """Every generation of the bundle key that this device has a good box of."""
    boxes = view.boxes_for(identity.certificate.serial)
    if not boxes:
        return {}
    seed = load_private_key(identity.directory / LINK_KEY_FILE).private_bytes_raw()
    keys: dict[KeyName, bytes] = {}
    for name, box in boxes:
        try:
            keys[name] = open_box(name, box, seed)
        except PeerError:
            # Made by a manager who did not mean us well; another entry may hold a good box of the same key.
            continue
    return keys


async def rotate(device: Device) -> Rotated:
    """Draw a new key, and publish a box of it for each live device as this manager."""
    generation = device.bundle_keys.generation() + 1
    if generation > BUNDLE_GENERATION_MAX:
        raise GenerationsUsedUp(
            "the bundle key cannot be rotated again: a manager used up its numbers. Revoke that manager with a cut "
            "before it did so ('tapmesh venue revoke'), then rotate"
        )
    key = os.urandom(KEY_BYTES)
    name = KeyName(generation, key_id(key))
    devices = device.bundle_keys.entitled(device.devices.all())
    left_out = await _publish(device, name, key, devices)
    holders = sorted(certificate.name for certificate in devices if certificate.name not in left_out)
    return Rotated(name, tuple(holders), left_out)


async def complete(device: Device) -> int:
    """Seal the key in use for devices that were enrolled since; returns how many. None where there is no key yet."""
    name = device.bundle_keys.current()
    if name is None:
        return 0
    lacking = device.bundle_keys.without_box(name, device.devices.all())
    key = open_keys(device.identity, device.bundle_keys).get(name) if lacking else None
    if key is None:
        return 0
    return len(lacking) - len(await _publish(device, name, key, lacking))


async def _publish(device: Device, name: KeyName, key: bytes, devices: Sequence[DeviceCertificate]) -> tuple[str, ...]:
    boxes: dict[int, bytes] = {}
    left_out: list[str] = []
    for certificate in devices:
        try:
            boxes[certificate.serial] = seal_for(key, certificate.link_key, os.urandom(SEED_BYTES))
        except PeerError:
            left_out.append(certificate.name)
    serials = sorted(boxes)
    for at in range(0, len(serials), BUNDLE_BOXES_PER_ENTRY_MAX):
        part = {serial: boxes[serial] for serial in serials[at : at + BUNDLE_BOXES_PER_ENTRY_MAX]}
        await device.append(Lane.CONTROL, Kind.BUNDLE_KEY, encode_sealed_keys(name, part))
    return tuple(left_out)
