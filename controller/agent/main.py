"""`edit-agent`: what an image starts as its first process, and what the workload calls.

edit-agent run -- COMMAND…     the container's first process
edit-agent busy -- COMMAND…    hold a busy lease while COMMAND runs
edit-agent save | restore      once, by hand; prints the receipt
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

USAGE = """\
usage: edit-agent run -- COMMAND [ARGUMENT...]
       edit-agent busy [--id NAME] -- COMMAND [ARGUMENT...]
       edit-agent save | restore

run      start COMMAND as the container's workload, save its workspace, answer the controller
busy     run COMMAND and keep the container from being idle until it ends
save     save the workspace now and print the receipt; exit status 0 saved, 75 not saved
restore  fill an empty workspace with what was saved and print what was done

All settings are environment variables: docs/agent.md.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process with its exit status."""
    from controller.agent.protocol import EXIT_CONFIG
    from controller.errors import ConfigError

    try:
        sys.exit(_command(list(sys.argv[1:] if arguments is None else arguments)))
    except ConfigError as e:
        sys.stderr.write("\n".join(e.lines()) + "\n")
        sys.exit(EXIT_CONFIG)


def _command(given: list[str]) -> int:
    # What a command does not need is not imported: the agent's helpers start many times a day.
    name, rest = (given[0], given[1:]) if given else ("", [])
    if name == "upload-pack" and len(rest) > 2:
        from controller.agent.untrusted import serve_workspace

        serve_workspace(rest[0], rest[1], rest[2:])
    if name == "run" and _behind_dashes(rest):
        from controller.agent.run import run
        from controller.agent.settings import from_environment

        return run(from_environment(os.environ), _behind_dashes(rest), os.environ)
    if name == "busy" and _behind_dashes(rest):
        from controller.agent.busy import busy

        return busy(_behind_dashes(rest), os.environ, _option(rest, "--id"))
    if name in ("save", "restore"):
        return _save(rest) if name == "save" else _restore(rest)
    sys.stderr.write(USAGE)
    return 0 if name in ("-h", "--help", "help") else 2


def _behind_dashes(given: list[str]) -> list[str]:
    return given[given.index("--") + 1 :] if "--" in given else []


def _option(given: list[str], name: str) -> str:
    before = given[: given.index("--")] if "--" in given else given
    return before[before.index(name) + 1] if name in before[:-1] else ""


def _save(options: list[str]) -> int:
    from controller.agent.git import Deadline
    from controller.agent.processes import hide_memory
    from controller.agent.protocol import EXIT_NOT_SAVED, EXIT_SAVED
    from controller.agent.settings import from_environment
    from controller.agent.workspace import save

    hide_memory()
    if "--trust-last" in options:
        os.nice(5)  # a checkpoint, while somebody works
    settings = from_environment(os.environ)
    seconds = float(_option(options, "--seconds") or settings.save_timeout)
    receipt = save(settings, Deadline(seconds), ask_again="--trust-last" not in options)
    sys.stdout.write(json.dumps(receipt.to_json()) + "\n")
    return EXIT_SAVED if receipt.saved else EXIT_NOT_SAVED


def _restore(options: list[str]) -> int:
    from controller.agent.failures import SaveFailed
    from controller.agent.git import Deadline
    from controller.agent.log import log
    from controller.agent.processes import hide_memory
    from controller.agent.protocol import EXIT_NOT_RESTORED
    from controller.agent.restore import restore
    from controller.agent.settings import from_environment

    hide_memory()
    settings = from_environment(os.environ)
    try:
        done = restore(settings, Deadline(float(_option(options, "--seconds") or settings.launch_timeout)))
    except SaveFailed as e:
        log("notRestored", reason=str(e.reason), what=e.what, why=e.why)
        return EXIT_NOT_RESTORED
    sys.stdout.write(json.dumps(done.to_json()) + "\n")
    return 0


if __name__ == "__main__":
    main()
