"""Imports go one way, and the pure part stays pure: each rule is one row of the table below.

    core <- views <- ports <- shell <- {courier, reader, gateway}

Someone new reads `mesh/core` alone and knows the protocol; that holds only while nothing in it reaches outward. A name
in a row stands for itself and for everything below it; `mesh.cli*` also for `mesh.cli_venue`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest

TREE: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("mesh", "reader", "gateway", "tests", "experiments", "tools")

FOUNDATION: Final = ("mesh.errors", "mesh.limits")
CRYPTOGRAPHY: Final = ("cbor2", "nacl", "cryptography")
PRODUCT: Final = ("mesh", "reader", "gateway")
PURE: Final = (
    *("mesh.core", "mesh.views", "mesh.errors", "mesh.limits"),
    *("reader.card", "reader.risk", "reader.tap", "reader.venue", "gateway.forward"),
    *("mesh.planning.changes", "mesh.planning.clone", "mesh.planning.outcome"),
    *("mesh.planning.plan", "mesh.planning.settle"),
)

# Where time, randomness, files, sockets and threads come in. `nacl.utils` is where PyNaCl keeps its random bytes.
IMPURE: Final = tuple(
    """
    anycorn anyio apsw asyncio concurrent ctypes fcntl getpass glob http httpx importlib logging mmap
    multiprocessing nacl.utils nfc os pathlib queue random secrets select selectors shutil signal socket socketserver
    sqlite3 ssl starlette subprocess sys tempfile threading time trio urllib uuid zeroconf
    """.split()
)

# Calls that bring time or randomness in by a class that is pure otherwise: `datetime.now()`, `SigningKey.generate()`.
IMPURE_METHODS: Final = frozenset({"now", "utcnow", "today", "generate", "generate_private_key"})
IMPURE_BUILTINS: Final = frozenset({"open", "input", "print", "__import__"})


@dataclass(frozen=True, slots=True)
class Row:
    """Modules under `who` import, besides the standard library, nothing but `only`; and never what is in `never`.

    What is under `except_for` is let off. Where `pure` is set, calls of `IMPURE_METHODS` and `IMPURE_BUILTINS` break
    the row too.
    """

    who: tuple[str, ...]
    reason: str
    only: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    except_for: tuple[str, ...] = ()
    pure: bool = False


ROWS: Final = (
    Row(
        FOUNDATION,
        only=FOUNDATION,
        reason="errors and bounds are below everything",
    ),
    Row(
        ("mesh.core",),
        only=("mesh.core", *FOUNDATION, *CRYPTOGRAPHY),
        reason="the protocol is read, tested and simulated alone",
    ),
    Row(
        ("mesh.views",),
        only=("mesh.views", "mesh.core", *FOUNDATION, *CRYPTOGRAPHY, "automerge"),
        reason="a view is a fold over entries and nothing else",
    ),
    Row(
        ("mesh.ports",),
        only=("mesh.core", "mesh.views", *FOUNDATION),
        reason="a port speaks the core's language, not a library's",
    ),
    Row(
        ("mesh.shell",),
        never=("mesh.courier", "mesh.testing", "mesh.planning", "mesh.bench", "mesh.demo", "mesh.cli*"),
        reason="the shell carries effects out for any kind of node, and knows none",
    ),
    Row(
        ("mesh",),
        never=("reader", "gateway"),
        # The simulator stands above everything: it runs whole venues, with every role in them (docs/adr/0048).
        except_for=("mesh.testing",),
        reason="the replicated logs know nothing of who sells or forwards; subcommands are found by entry points",
    ),
    Row(
        ("reader",),
        never=("gateway",),
        reason="a bar sells without knowing how anything is settled",
    ),
    Row(
        ("gateway",),
        never=("reader",),
        reason="what is settled is decided by entries, not by a reader's code",
    ),
    Row(
        ("reader", "gateway", "mesh.shell", "mesh.courier"),
        never=("mesh.testing", "mesh.planning", "mesh.demo", "mesh.bench"),
        reason="what sells runs without the simulator, the planner, the demo and the bench",
    ),
    Row(
        PRODUCT,
        never=("tests", "experiments", "tools", "pytest", "hypothesis"),
        reason="the product runs where only its own dependencies are installed",
    ),
    Row(
        ("tests", "tools"),
        never=("experiments",),
        reason="an experiment answers its question once; nothing stands on it",
    ),
    Row(
        PURE,
        never=IMPURE,
        pure=True,
        reason="time and randomness are arguments, effects are returned: it replays from a seed",
    ),
)


def covers(pattern: str, module: str) -> bool:
    """Whether `module` is the pattern itself or something below it."""
    return fnmatchcase(module, pattern) or fnmatchcase(module, f"{pattern}.*")


def covered(patterns: tuple[str, ...], module: str) -> bool:
    return any(covers(pattern, module) for pattern in patterns)


def imported_by(module: str, tree: ast.Module, *, is_package: bool, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Yield (line, module name) of each import, also those inside functions and under TYPE_CHECKING.

    `from package import name` counts as `package.name` where that is a module of ours or of an impure library, so that
    neither `from mesh import limits` nor `from nacl import utils` passes for something else.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, name.name) for name in names)
            case ast.ImportFrom(module=origin, names=names, level=level):
                base = module.split(".")
                parents = base[: len(base) - level + is_package] if level else []
                source = ".".join([*parents, *([origin] if origin else [])])
                for name in names:
                    below = f"{source}.{name.name}"
                    yield node.lineno, below if below in known or below in IMPURE else source
            case _:
                pass


def impure_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of each call that reads a clock, makes randomness or touches a file without an import."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in IMPURE_BUILTINS:
                yield node.lineno, f"{name}()"
            case ast.Call(func=ast.Attribute(attr=name)) if name in IMPURE_METHODS:
                yield node.lineno, f".{name}()"
            case _:
                pass


def violations(module: str, source: str, *, is_package: bool = False, known: frozenset[str] = frozenset()) -> list[str]:
    """Return one sentence for each import or call of `module` that breaks a row."""
    tree = ast.parse(source)
    imports = list(imported_by(module, tree, is_package=is_package, known=known))
    found = []
    for row in ROWS:
        if not covered(row.who, module) or covered(row.except_for, module):
            continue
        for line, name in imports:
            library = name.split(".")[0] in sys.stdlib_module_names
            outside = row.only is not None and not library and not covered(row.only, name)
            if outside or covered(row.never, name):
                found.append(f"{module}:{line} imports {name}, but {row.reason}")
        if row.pure:
            found += [f"{module}:{line} calls {name}, but {row.reason}" for line, name in impure_calls(tree)]
    return found


def module_name(path: Path) -> str:
    parts = path.relative_to(TREE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES: Final = {module_name(path): path for package in PACKAGES for path in sorted((TREE / package).rglob("*.py"))}


def test_every_import_in_the_tree_goes_the_allowed_way() -> None:
    known = frozenset(SOURCES)
    found = [
        sentence
        for module, path in SOURCES.items()
        for sentence in violations(
            module, path.read_text(encoding="utf-8"), is_package=path.stem == "__init__", known=known
        )
    ]
    assert found == []


def test_every_package_is_looked_at() -> None:
    assert {name.split(".")[0] for name in SOURCES} >= {"mesh", "reader", "gateway", "tests", "tools"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mesh.limits", "import cbor2"),
        ("mesh.core.entry", "from mesh.views import cards"),
        ("mesh.core.entry", "from mesh import ports"),
        ("mesh.core.entry", "from ..views.cards import Card"),
        ("mesh.core.entry", "import apsw"),
        ("mesh.core.session", "def f() -> None:\n    import trio"),
        ("mesh.views.cards", "from mesh.shell.store import Store"),
        ("mesh.ports", "import trio"),
        ("mesh.shell.node", "from mesh.courier import bundle"),
        ("mesh.shell.node", "import mesh.cli_venue"),
        ("mesh.cli", "from reader.cli import reader"),
        ("mesh.shell.device", "from mesh.testing import world"),
        ("mesh.demo.cli", "import gateway.settlement"),
        ("reader.app", "from gateway import forward"),
        ("gateway.app", "import reader.card"),
        ("reader.app", "from mesh.testing import world"),
        ("gateway.app", "from experiments import ceiling"),
        ("tests.unit.test_card", "import experiments"),
        ("mesh.core.entry", "from datetime import datetime\nstamp = datetime.now()"),
        ("mesh.core.entry", "from nacl.signing import SigningKey\nkey = SigningKey.generate()"),
        ("mesh.core.entry", "from nacl import utils"),
        ("mesh.views.cards", "import time"),
        ("mesh.views.cards", "from os import urandom"),
        ("reader.tap", "import secrets"),
        ("reader.card", "from pathlib import Path"),
        ("reader.risk", "import random"),
        ("gateway.forward", "import sqlite3"),
        ("gateway.forward", "data = open('state').read()"),
    ],
)
def test_source_that_breaks_a_rule_is_named(module: str, source: str) -> None:
    known = frozenset({"mesh.ports", "mesh.views.cards", "mesh.courier.bundle", "gateway.forward", "experiments"})
    found = violations(module, source, known=known)
    assert found
    assert all(sentence.startswith(f"{module}:") for sentence in found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "mesh.core.entry",
            "import hashlib\nimport cbor2\nfrom nacl.signing import VerifyKey\nfrom mesh import limits",
        ),
        ("mesh.core.chain", "from .entry import Entry"),
        ("mesh.views.cards", "from mesh.core.entry import Entry\nfrom ..limits import SEQ_MAX"),
        ("mesh.shell.clock", "import time\nimport trio\nfrom mesh.ports import Clock\nnow = time.monotonic()"),
        ("reader.app", "from mesh.shell.node import Node\nimport nfc"),
        ("mesh.testing.world", "from reader import tap\nfrom gateway import forward"),
        ("experiments.001_ceiling.run", "from mesh.core import entry\nimport gateway"),
    ],
)
def test_source_that_keeps_the_rules_passes(module: str, source: str) -> None:
    assert violations(module, source, known=frozenset({"mesh.limits", "mesh.core.entry"})) == []
