"""The short-lived credential that EDIT_CREDENTIAL_COMMAND prints.

The command speaks git's credential protocol (it reads `protocol=`, `host=` and `path=`, and prints `username=` and
`password=`), or prints the password alone. Nothing of what it prints is ever logged.
"""

from __future__ import annotations

import subprocess
from urllib.parse import urlsplit

from controller.agent.failures import SaveFailed
from controller.agent.git import Credential, Deadline, end_group
from controller.agent.protocol import SaveReason
from controller.agent.settings import Settings

COMMAND_TIMEOUT = 20


def obtain(settings: Settings, deadline: Deadline) -> Credential | None:
    """Return a fresh credential, None when no command is configured. Raises SaveFailed."""
    if not settings.credential_command:
        return None
    parts = urlsplit(settings.remote)
    host = parts.netloc.rpartition("@")[2]
    asked = f"protocol={parts.scheme}\nhost={host}\npath={parts.path.lstrip('/')}\n\n"
    process = subprocess.Popen(
        ["/bin/sh", "-c", settings.credential_command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=settings.state,
        process_group=0,
    )
    with process:
        try:
            out, _ = process.communicate(asked.encode(), timeout=deadline.within(COMMAND_TIMEOUT).left())
        except subprocess.TimeoutExpired:
            end_group(process)
            raise _missing("it did not end in time") from None
    if process.returncode != 0:
        raise _missing(f"it ended with {process.returncode}")
    return _read(out.decode(errors="replace"), settings.credential_user)


def _read(text: str, user: str) -> Credential:
    lines = [line for line in text.splitlines() if line]
    pairs = dict(line.split("=", 1) for line in lines if line.startswith(("username=", "password=")))
    if "password" in pairs:
        return Credential(pairs.get("username") or user, pairs["password"])
    if len(lines) != 1:
        raise _missing(f"it printed {len(lines)} lines, neither a password nor git's credential form")
    return Credential(user, lines[0])


def _missing(why: str) -> SaveFailed:
    return SaveFailed(
        SaveReason.CREDENTIAL_MISSING,
        "EDIT_CREDENTIAL_COMMAND gave no credential",
        why,
        "run it by hand in the container",
    )
