"""`editctl completion`: what a shell needs to complete the commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from controller.cli.app import App, command
from controller.cli.screen import out

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_EDITCTL_COMPLETE"
"""What click looks at to know that a shell asks."""


@command(
    "completion",
    settings=False,
    short_help="Let a shell complete the commands.",
    examples="""
        eval "$(editctl completion bash)"
        editctl completion fish > ~/.config/fish/completions/editctl.fish
    """,
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(app: App, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    bash  in ~/.bashrc: eval "$(editctl completion bash)"
    zsh   in ~/.zshrc:  eval "$(editctl completion zsh)"
    fish  editctl completion fish > ~/.config/fish/completions/editctl.fish
    """
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None
    # Not source(): for bash it starts one to ask its version, and all of today's are new enough.
    made = kind(root, {}, "editctl", VARIABLE)
    out([(made.source_template % made.source_vars()).strip()])
