"""Make the virtual environment in the tree what the lock says, and leave it alone when it already is.

Run by the Makefile with the Python that will carry the environment; uses nothing outside the standard library. Two
stamps inside the environment say what it was made of: the *libraries* stamp (both locks, the interpreter, the place of
the tree) and the *project* stamp (pyproject.toml). Stamps are hashes of content, so a checkout that only touches files
rebuilds nothing, and each is written last, so an interrupted install is done again. A lock file lets one make at a time
in: the second waits, then finds the work done.
"""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parent.parent
BUILD_LOCK: Final = "requirements-build.lock"
LIBRARIES_LOCK: Final = "requirements.lock"

# The one dependency that its authors publish as source only; everything else must be a wheel, because compiling on a
# reader's board would need what nobody locked.
SOURCE_ONLY: Final = "pydes"

INDEX_NEEDED: Final = "the first run needs a package index that pip can reach"


class InstallFailed(Exception):
    """A step of the installation ended with an error, which pip has printed; the message says which, and what to do."""


def digest(*parts: bytes) -> str:
    """Return one SHA-256 over `parts`, each under its own hash so that bytes cannot move between them."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def libraries_stamp(tree: Path) -> str:
    """Return what the installed libraries depend on: the locks, the interpreter, and the path scripts are tied to."""
    locks = [(tree / name).read_bytes() for name in (BUILD_LOCK, LIBRARIES_LOCK)]
    interpreter = f"{sys.version} {sys.base_prefix} {tree}"
    return digest(*locks, interpreter.encode())


def project_stamp(tree: Path) -> str:
    """Return what the installed project depends on: its name, version, command and entry points."""
    return digest((tree / "pyproject.toml").read_bytes())


def holds(stamp: Path, value: str) -> bool:
    """Whether the environment was finished with exactly `value`."""
    return stamp.is_file() and stamp.read_text(encoding="ascii") == value


@contextmanager
def one_at_a_time(tree: Path) -> Iterator[None]:
    """Wait until no other make is at work on this tree's environment; the kernel frees the lock if we die."""
    with (tree / ".venv.busy").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        yield


def run(command: Sequence[str | Path], *, otherwise: str) -> None:
    """Run one step of the installation, or raise :class:`InstallFailed` with what to say `otherwise`."""
    if subprocess.run([str(part) for part in command], cwd=TREE, check=False).returncode != 0:
        raise InstallFailed(otherwise)


def pip_of(environment: Path) -> list[str | Path]:
    """Return the command that starts the environment's own pip; `-qq` after it leaves only errors to be read."""
    return [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]


def install_libraries(environment: Path) -> None:
    """Make the environment anew and install exactly what the locks name, each file checked against its hash."""
    print(f"Making {environment.name} with Python {sys.version.split()[0]} from {LIBRARIES_LOCK}", file=sys.stderr)
    venv.create(environment, clear=True, with_pip=True, symlinks=True)
    locked = [*pip_of(environment), "-qq", "install", "--require-hashes", "--no-deps"]
    run([*locked, "-r", BUILD_LOCK], otherwise=f"pip could not install {BUILD_LOCK}; {INDEX_NEEDED}")
    wheels = ["--only-binary=:all:", f"--no-binary={SOURCE_ONLY}", "--no-build-isolation", "--use-pep517"]
    run([*locked, *wheels, "-r", LIBRARIES_LOCK], otherwise=f"pip could not install {LIBRARIES_LOCK}; {INDEX_NEEDED}")


def install_project(environment: Path) -> None:
    """Install the tree itself, editable, and check that the locks satisfy what pyproject.toml asks for."""
    editable = [*pip_of(environment), "-qq", "install", "--no-deps", "--no-build-isolation", "--editable", "."]
    run(editable, otherwise="pip could not install this tree")
    run(
        [*pip_of(environment), "check"],
        otherwise=f"{LIBRARIES_LOCK} does not satisfy pyproject.toml; run `make lock` and commit both",
    )


def bring_up_to_date(tree: Path) -> None:
    """Do what is missing and nothing else; raises :class:`InstallFailed`."""
    environment = tree / ".venv"
    libraries, project = environment / "libraries.stamp", environment / "project.stamp"
    with one_at_a_time(tree):
        if not holds(libraries, libraries_stamp(tree)):
            install_libraries(environment)
            libraries.write_text(libraries_stamp(tree), encoding="ascii")
        if not holds(project, project_stamp(tree)):
            install_project(environment)
            project.write_text(project_stamp(tree), encoding="ascii")


def main() -> int:
    """Return the exit code; on failure say what failed, what it means and what to do."""
    try:
        bring_up_to_date(TREE)
    except (InstallFailed, OSError, subprocess.CalledProcessError) as failure:
        print(f"The virtual environment is not ready: {failure}.", file=sys.stderr)
        print("Nothing outside .venv was changed; `make clean` starts again.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
