"""Become one of our commands inside something else: a network namespace, a machine without a network.

``tests.system.inside:enter PREFIX... -- MODULE:NAME ARGUMENTS...`` replaces this process, so its id is the command's.
"""

from __future__ import annotations

import os
import sys


def enter() -> None:
    """Replace this process."""
    at = sys.argv.index("--")
    prefix, command, arguments = sys.argv[1:at], sys.argv[at + 1], sys.argv[at + 2 :]
    module, name = command.split(":")
    os.execvp(prefix[0], [*prefix, sys.executable, "-c", f"from {module} import {name}; {name}()", *arguments])
