"""What `tapmesh doctor` asks a reader's hardware: is there an NFC device, and may this user open it."""

from __future__ import annotations

from mesh.core.kinds import Role
from mesh.errors import LocalError
from mesh.shell.doctor import Check, Outcome, Patient, from_error

DEVICE_DEFAULT = "usb"


def nfc_device(patient: Patient) -> list[Check]:
    """Open the NFC device and let it go again; not while the reader's own program has it."""
    if not patient.has_role(Role.READER, Role.TILL):
        return []
    settings = patient.settings
    configured = None if isinstance(settings, LocalError) else settings.text("device")
    path = patient.device_path or configured or DEVICE_DEFAULT
    facts = {"device": path}
    if patient.running is not None:
        return [Check("nfc", Outcome.GOOD, f"{path}: in use by process {patient.running}", facts=facts)]
    # Here, because nfcpy takes time to import, and most devices have no reader.
    from reader.chips.radio import NoReaderDevice, open_radio  # noqa: PLC0415

    try:
        open_radio(path).close()
    except NoReaderDevice as error:
        return [from_error("nfc", error)]
    if path.startswith("udp"):
        text = f"{path} is for emulated wristbands: for trying out, not for a bar"
        return [Check("nfc", Outcome.REMARK, text, 'plug the NFC reader in, and set device = "usb"', facts)]
    return [Check("nfc", Outcome.GOOD, f"{path} answers", facts=facts)]
