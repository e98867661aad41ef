"""One target under Atheris, in a process of its own: libFuzzer takes the process over and ends it.

``python -m tests.fuzz.one TARGET [corpus ...] [-libfuzzer_option=...]``; `tools.fuzz` starts it.
"""

from __future__ import annotations

import importlib
import resource
import sys
from collections.abc import Sequence
from typing import Final

import atheris

ADDRESS_SPACE_BYTES_MAX: Final = 3 * 1024**3
"""Far above what any input may cost: a loop that allocates for ever ends here, and not in the machine's memory."""


def main(slug: str, options: Sequence[str]) -> None:
    """Does not return: the process ends with code 0, or with a traceback and a file of the input that failed."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES_MAX, ADDRESS_SPACE_BYTES_MAX))
    with atheris.instrument_imports(include=["mesh", "gateway", "reader"]):
        catalogue = importlib.import_module("tests.fuzz.catalogue")
    target, check = catalogue.TARGETS[slug.replace("_", " ")], catalogue.check
    # libFuzzer starts its first argument again when it makes a corpus smaller.
    again = f"{sys.executable} -m tests.fuzz.one {slug}"
    atheris.Setup([again, f"-max_len={target.bytes_max}", *options], lambda data: check(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
