"""Settings of the long-running programs: flag > environment > the device's file > the machine's file > default.

::

    tapmesh reader run --zone north          the flag
    TAPMESH_ZONE=north                       the environment
    DIR/device.toml:  zone = "north"         one TOML file a device
    /etc/tapmesh/device.toml                 for all devices of a machine; another path with TAPMESH_SETTINGS

Every key is the name of the option without its dashes. A key that is not known is refused, with the one that was
probably meant: a typing error must not leave a reader in the wrong zone without a word.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from mesh.errors import LocalError
from mesh.limits import SETTINGS_BYTES_MAX
from mesh.shell.files import AlreadyThere, CannotRead, read_file, write_new_file

SETTINGS_FILE: Final = "device.toml"
MACHINE_FILE: Final = Path("/etc/tapmesh/device.toml")
MACHINE_FILE_VARIABLE: Final = "TAPMESH_SETTINGS"
DIRECTORY_VARIABLE: Final = "TAPMESH_DIR"
VENUE_VARIABLE: Final = "TAPMESH_VENUE"

Setting: TypeAlias = "str | bool | list[str]"
_ADDRESS: Final = re.compile(r"[^\s:]+:[0-9]{1,5}")


class BadSettings(LocalError):
    """A settings file cannot be used; nothing was started."""


class Shape(Enum):
    """What a setting's value may be; the text is for people."""

    TEXT = "a text in quotes"
    YES_NO = "true or false"
    ADDRESS = 'an address in quotes, like "192.0.2.7:7400"'
    ADDRESSES = 'a list of addresses, like ["192.0.2.7:7400"]'


@dataclass(frozen=True, slots=True)
class Known:
    """One setting: its key in the file, the option's parameter, and what it is for."""

    key: str
    parameter: str
    shape: Shape
    meaning: str

    @property
    def variable(self) -> str:
        return "TAPMESH_" + self.key.upper()


KNOWN: Final = (
    Known("zone", "zone", Shape.TEXT, "the bar area this device is in"),
    Known("listen", "listen", Shape.ADDRESS, "where to listen"),
    Known("peer", "peers", Shape.ADDRESSES, "addresses to dial, where devices cannot find each other"),
    Known("mdns", "mdns", Shape.YES_NO, "find other devices on the local network"),
    Known("interface", "interface", Shape.TEXT, "use only the network interface with this IPv4 address"),
    Known("json", "as_json", Shape.YES_NO, "say what happens as JSON lines"),
    Known("device", "device_path", Shape.TEXT, "the NFC device, as nfcpy names it"),
    Known("upstream", "upstream", Shape.TEXT, "the settlement service that a gateway forwards to"),
)
BY_PARAMETER: Final = {known.parameter: known for known in KNOWN}
_BY_KEY: Final = {known.key: known for known in KNOWN}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the files say: values by key, and the file that each one is from."""

    values: Mapping[str, Setting]
    sources: Mapping[str, Path]

    def value(self, key: str) -> Setting | None:
        """What a program would take without a flag: the environment's value, else the files'."""
        known = _BY_KEY[key]
        written = os.environ.get(known.variable)
        if not written:
            return self.values.get(key)
        return written.split() if known.shape is Shape.ADDRESSES else written

    def text(self, key: str) -> str | None:
        """The value of a setting that is a text."""
        value = self.value(key)
        return value if isinstance(value, str) else None

    def addresses(self, key: str) -> list[str]:
        """The value of a setting that is a list of addresses."""
        value = self.value(key)
        return value if isinstance(value, list) else []

    def by_parameter(self) -> dict[str, Setting]:
        """The values under the names of the options' parameters."""
        return {_BY_KEY[key].parameter: value for key, value in self.values.items()}


def machine_file() -> Path:
    """The settings file for all devices of this machine."""
    return Path(os.environ.get(MACHINE_FILE_VARIABLE) or MACHINE_FILE)


def read_settings(directory: Path) -> Settings:
    """What the machine's file and then the device's say, or :class:`BadSettings`; none of them need be there."""
    values: dict[str, Setting] = {}
    sources: dict[str, Path] = {}
    for path in (machine_file(), directory / SETTINGS_FILE):
        found = _read(path)
        values.update(found)
        sources.update(dict.fromkeys(found, path))
    return Settings(values, sources)


def write_first_settings(directory: Path, zone: str) -> None:
    """Write the settings of a device that just joined; never over others."""
    text = f"# Settings of this device; 'tapmesh device settings' shows them all.\nzone = {json.dumps(zone)}\n"
    try:
        write_new_file(directory / SETTINGS_FILE, text.encode("utf-8"))
    except AlreadyThere:
        # Somebody wrote one meanwhile: theirs counts.
        return


def _read(path: Path) -> dict[str, Setting]:
    if not path.exists():
        return {}
    try:
        data = tomllib.loads(read_file(path, bytes_max=SETTINGS_BYTES_MAX, meaning="the settings").decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not TOML ({error}); nothing was started. Correct it or move it away") from error
    except CannotRead as error:
        raise BadSettings(f"{error}; nothing was started") from error
    problems = [problem for key, value in data.items() for problem in _problems(key, value)]
    if problems:
        raise BadSettings(f"{path}: {'; '.join(problems)}. Nothing was started: correct the file")
    return data


def _problems(key: str, value: object) -> list[str]:
    known = _BY_KEY.get(key)
    if known is None:
        close = difflib.get_close_matches(key, _BY_KEY, n=1)
        meant = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_BY_KEY)}"
        return [f"{key!r} is not a setting ({meant})"]
    if not _fits(known.shape, value):
        return [f"{key!r} must be {known.shape.value}"]
    return []


def _fits(shape: Shape, value: object) -> bool:
    match shape:
        case Shape.TEXT:
            return isinstance(value, str) and bool(value)
        case Shape.YES_NO:
            return isinstance(value, bool)
        case Shape.ADDRESS:
            return _is_address(value)
        case Shape.ADDRESSES:
            return isinstance(value, list) and all(map(_is_address, value))


def _is_address(value: object) -> bool:
    return isinstance(value, str) and _ADDRESS.fullmatch(value) is not None
