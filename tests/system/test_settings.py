"""Settings by flag, environment and file; completion; and help that teaches."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import pytest

from mesh.cli import main
from mesh.cli_examples import EXAMPLES
from mesh.core.kinds import Role
from mesh.shell.settings import KNOWN, BadSettings, machine_file, read_settings
from tests.factory import Venue
from tests.programs import PATIENCE_S, TREE
from tests.system.processes import LOOPBACK, Enrolled

NOT_SETTINGS = {"directory", "until_eof", "after_restore"}
"""Options of programs that run: which device it is, how it was started, and what is said once."""


def _tapmesh(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(TREE), **environment},
    )


def _started(directory: Path, *options: str, **environment: str) -> dict[str, object]:
    """What a node says when it is ready; it ends by itself at once."""
    done = _tapmesh("node", "run", "--dir", directory, "--until-eof", *LOOPBACK, *options, **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = next(
        line for line in map(json.loads, done.stdout.splitlines()) if line["event"] == "ready"
    )
    return found


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return Enrolled(Venue(), tmp_path, "bar A", Role.READER).directory


def test_flag_beats_environment_beats_the_devices_file_beats_the_machines(device: Path, tmp_path: Path) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text('zone = "machine"\njson = true\n', encoding="utf-8")
    where = {"TAPMESH_SETTINGS": str(machine)}
    assert _started(device, **where)["zone"] == "machine"
    (device / "device.toml").write_text('zone = "file"\n', encoding="utf-8")
    assert _started(device, **where)["zone"] == "file"
    where["TAPMESH_ZONE"] = "environment"
    assert _started(device, **where)["zone"] == "environment"
    assert _started(device, "--zone", "flag", **where)["zone"] == "flag"


def test_device_can_be_named_by_the_environment(device: Path) -> None:
    done = _tapmesh("device", "show", TAPMESH_DIR=str(device))
    assert done.returncode == 0, done.stderr
    assert "bar A" in done.stdout


def test_settings_are_shown_with_where_they_are_from(device: Path, tmp_path: Path) -> None:
    machine = tmp_path / "machine.toml"
    machine.write_text('peer = ["192.0.2.7:7400"]\n', encoding="utf-8")
    (device / "device.toml").write_text('zone = "north"\nmdns = false\n', encoding="utf-8")
    where = {"TAPMESH_SETTINGS": str(machine), "TAPMESH_DEVICE": "tty:USB0"}
    done = _tapmesh("device", "settings", "--dir", device, "--json", **where)
    shown = json.loads(done.stdout)
    assert shown["zone"] == {"value": "north", "from": str(device / "device.toml")}
    assert shown["mdns"]["value"] is False
    assert shown["peer"] == {"value": ["192.0.2.7:7400"], "from": str(machine)}
    assert shown["device"] == {"value": "tty:USB0", "from": "TAPMESH_DEVICE"}
    assert shown["upstream"]["value"] is None
    assert "TAPMESH_DEVICE" in _tapmesh("device", "settings", "--dir", device, **where).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('zoen = "north"\n', "did you mean 'zone'?"),
        ("zone = 5\n", "'zone' must be a text in quotes"),
        ('mdns = "no"\n', "'mdns' must be true or false"),
        ('peer = "192.0.2.7:7400"\n', "'peer' must be a list of addresses"),
        ('peer = ["192.0.2.7"]\n', "'peer' must be a list of addresses"),
        ('listen = "7400"\n', "'listen' must be an address"),
        ("zone = north\n", "is not TOML"),
        ('colour = "blue"\n', "there are zone, listen"),
    ],
)
def test_setting_that_cannot_be_meant_starts_nothing(device: Path, text: str, said: str) -> None:
    (device / "device.toml").write_text(text, encoding="utf-8")
    done = _tapmesh("node", "run", "--dir", device, "--until-eof", *LOOPBACK)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""
    with pytest.raises(BadSettings):
        read_settings(device)


def test_machines_file_is_in_etc_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPMESH_SETTINGS", raising=False)
    assert machine_file() == Path("/etc/tapmesh/device.toml")


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _commands(below, (*path, name))


def _programs() -> Mapping[tuple[str, ...], click.Command]:
    """Every command that runs a device until it is stopped."""
    return {
        path: command
        for path, command in _commands(main)
        if path[-1:] == ("run",) and any(parameter.name == "directory" for parameter in command.params)
    }


def test_every_option_of_every_program_can_be_set_in_the_file() -> None:
    programs = _programs()
    assert {path[0] for path in programs} >= {"node", "reader", "courier", "gateway", "settlement"}
    known = {setting.parameter for setting in KNOWN}
    used: set[str | None] = set()
    for path, command in programs.items():
        options = {parameter.name for parameter in command.params} - NOT_SETTINGS
        assert options <= known, f"{' '.join(path)}: {options - known} cannot be set"
        used |= options
    assert used == known


def test_every_example_of_the_help_can_be_typed_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bar-a").mkdir()
    by_path = dict(_commands(main))
    groups = {path[0] for path, command in by_path.items() if len(path) == 1 and isinstance(command, click.Group)}
    assert set(EXAMPLES) >= groups - {"demo"}
    for lines in EXAMPLES.values():
        for line in (line for line in lines if line.startswith("tapmesh ")):
            words = shlex.split(line)[1:]
            command = by_path[tuple(words[:2])]
            command.make_context(line, words[2:], resilient_parsing=False).close()


def test_every_command_says_what_it_does() -> None:
    for path, command in _commands(main):
        assert command.get_short_help_str(200), path
        if path and not isinstance(command, click.Group):
            undescribed = [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
            assert not undescribed, (path, undescribed)


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete ")])
def test_completion_is_printed_for_each_shell(shell: str, word: str) -> None:
    done = _tapmesh("completion", shell)
    assert done.returncode == 0, done.stderr
    assert word in done.stdout
    assert "_TAPMESH_COMPLETE" in done.stdout


def test_bash_completes_commands_and_options(require_program: Callable[[str], str], tmp_path: Path) -> None:
    bash = require_program("bash")
    command = tmp_path / "tapmesh"
    code = "from mesh.cli import main; main(prog_name='tapmesh')"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    asked = {
        "tapmesh ven": "venue",
        "tapmesh venue wel": "welcome",
        "tapmesh reader run --zo": "--zone",
        "tapmesh venue enrol --role man": "manager",
    }
    script = ['eval "$(tapmesh completion bash)"']
    for line in asked:
        words = shlex.split(line)
        script.append(f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMPREPLY=()")
        script.append(f'_tapmesh_completion tapmesh {words[-1]} {words[-2]}; echo "${{COMPREPLY[*]}}"')
    done = subprocess.run(
        [bash, "--norc", "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(TREE)},
    )
    assert done.stdout.splitlines() == list(asked.values()), done.stderr
