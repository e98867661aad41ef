"""`tapmesh completion SHELL`: the lines that make a shell complete our commands."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from mesh.cli_output import say

_VARIABLE: Final = "_TAPMESH_COMPLETE"
"""What click asks for completions through, for a program of this name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes SHELL complete tapmesh's commands and options.

    \b
      bash   eval "$(tapmesh completion bash)"                     in ~/.bashrc
      zsh    eval "$(tapmesh completion zsh)"                      in ~/.zshrc
      fish   tapmesh completion fish > ~/.config/fish/completions/tapmesh.fish
    """
    found = get_completion_class(shell)
    assert found is not None, "click knows the three shells that are offered"
    completed = found(context.find_root().command, {}, "tapmesh", _VARIABLE)
    # Not `source()`: it starts a bash to ask for its version, and complains where there is none.
    say(completed.source_template % completed.source_vars())
