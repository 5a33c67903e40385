"""Running git so that nothing in the workspace has a say in it.

Git's own boundary is that most commands must not run in an untrusted `.git` directory, because its configuration
names programs. So every command here runs in the agent's own bare repository (or, for `upload-pack` alone, which git
hardens for that use, on the workspace: see untrusted.py), with no system or user configuration, no GIT_* variable of
anybody's, one allowed transport, and a deadline. The credential exists in one process tree at a time: a command that
talks to the remote gets it through a memory file that only its askpass helper reads.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from controller.agent.failures import GitFailed, SaveFailed
from controller.agent.protocol import SaveReason
from controller.agent.settings import Settings
from controller.errors import ConfigError

SAID = 2000
"""Characters of a command's error output that are kept."""
PACKAGE_PATH = str(Path(__file__).resolve().parents[2])

_REASONS = (
    (re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE), SaveReason.DISK_FULL),
    (
        re.compile(
            r"Authentication failed|could not read (Username|Password)|error: 40[13]\b|HTTP 40[13]\b"
            r"|Permission denied \(|terminal prompts disabled|Invalid username or",
            re.IGNORECASE,
        ),
        SaveReason.CREDENTIAL_REFUSED,
    ),
    (
        re.compile(
            r"Repository not found|repository '[^']*' not found|does not appear to be a git repository"
            r"|does not exist|error: 404\b",
            re.IGNORECASE,
        ),
        SaveReason.REMOTE_MISSING,
    ),
    (
        re.compile(
            r"Could not resolve|Failed to connect|Couldn't connect|Connection (refused|timed out|reset)"
            r"|unable to access|early EOF|hung up unexpectedly|error: 5\d\d\b|Could not read from remote"
            r"|Network is unreachable|unable to update url base from redirection",
            re.IGNORECASE,
        ),
        SaveReason.REMOTE_UNREACHABLE,
    ),
)

CONFIG = """\
[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	hooksPath = /dev/null
	fsmonitor = false
	untrackedCache = false
	ignoreCase = false
	symlinks = true
	precomposeUnicode = false
	protectNTFS = false
	protectHFS = false
	autocrlf = false
	bigFileThreshold = 32m
	logAllRefUpdates = false
	attributesFile = /dev/null
	excludesFile = /dev/null
	pager = cat
[gc]
	auto = 0
[maintenance]
	auto = false
[fastimport]
	unpackLimit = 1
[pack]
	compression = 1
[credential]
	helper =
[http]
	followRedirects = false
[fetch]
	recurseSubmodules = false
[push]
	recurseSubmodules = no
	gpgSign = false
	followTags = false
[commit]
	gpgSign = false
[submodule]
	recurse = false
"""
ASKPASS = """\
#!/bin/sh
# Answers git's two questions about the one host that the credential is for, and no other.
scheme=${EDIT_ASKPASS_FOR%%://*} host=${EDIT_ASKPASS_FOR#*://}
case $1 in
"Username for '$scheme://$host': ") wanted=user ;;
"Password for '$scheme://$host': " | "Password for '$scheme://"*"@$host': ") wanted=password ;;
*) exit 1 ;;
esac
{
	IFS= read -r user
	IFS= read -r password
} <"/dev/fd/$EDIT_ASKPASS_FD" || exit 1
if [ "$wanted" = user ]; then printf '%s\\n' "$user"; else printf '%s\\n' "$password"; fi
"""


class Deadline:
    """A moment by which everything must be done. Commands get what is left of it."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and that many seconds from now."""
        return Deadline(min(seconds, self.left()))

    def minus(self, seconds: float) -> Deadline:
        """Return a deadline that keeps some seconds back for what comes after."""
        return Deadline(max(0.0, self.left() - seconds))

    def check(self, doing: str) -> None:
        """Raise SaveFailed when nothing is left."""
        if self.left() <= 0:
            raise SaveFailed(SaveReason.DEADLINE, f"the time was up while {doing}")


@dataclass(frozen=True, slots=True)
class Credential:
    """What the remote is told. Never printed: `repr` leaves the password out."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    out: bytes
    said: str


def clean_environment(home: Path, scheme: str) -> dict[str, str]:
    """Return the whole environment of a git command: a short list, not the agent's environment with things removed."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": scheme or "none",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "false",
        "SSH_ASKPASS": "false",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_MERGE_AUTOEDIT": "no",
    }


def self_command(*arguments: str) -> list[str]:
    """Return the command line that runs this program again, whatever the directory or PYTHON* variables are."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from controller.agent.main import main; main()"
    return [sys.executable, "-I", "-S", "-c", code, PACKAGE_PATH, *arguments]


class Git:
    """git on the agent's own bare repository."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.home = settings.state / "home"
        self.dir = settings.state / "repository.git"
        self.askpass = settings.state / "askpass"
        self.credential: Credential | None = None
        self.inherited: tuple[int, ...] = ()
        """Descriptors that every command keeps open: the lock, so that it is held for as long as one of them runs."""
        program = shutil.which("git")
        if program is None:
            raise ConfigError(
                "git is not installed in this image", "the agent saves with it", "install git 2.39 or newer"
            )
        self.program = program

    def run(
        self,
        *arguments: str,
        deadline: Deadline,
        stdin: bytes = b"",
        extra: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        allowed: Iterable[int] = (0,),
    ) -> Done:
        """Run a command that does not talk to the remote. Raises GitFailed."""
        environment = clean_environment(self.home, "") | dict(extra or {})
        return self._run(arguments, environment, self.inherited, deadline, stdin, cwd, allowed)

    def text(
        self, *arguments: str, deadline: Deadline, stdin: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> str:
        """Run a command and return what it prints, as one stripped text."""
        return os.fsdecode(self.run(*arguments, deadline=deadline, stdin=stdin, extra=extra).out).strip()

    def remote(self, *arguments: str, deadline: Deadline, stdin: bytes = b"", allowed: Iterable[int] = (0,)) -> Done:
        """Run a command that talks to the remote, with the credential if there is one. Raises GitFailed."""
        settings = self.settings
        environment = clean_environment(self.home, settings.scheme)
        if settings.ssh_command:
            environment["GIT_SSH_COMMAND"] = settings.ssh_command
        options = [f"--config-env={key}={name}" for key, name, _ in self._transport()]
        environment |= {name: value for _, name, value in self._transport()}
        if self.credential is None:
            return self._run((*options, *arguments), environment, self.inherited, deadline, stdin, None, allowed)
        descriptor = _memory_file(self.credential)
        try:
            environment["GIT_ASKPASS"] = str(self.askpass)
            environment["EDIT_ASKPASS_FD"] = str(descriptor)
            environment["EDIT_ASKPASS_FOR"] = origin(settings.remote)
            kept = (*self.inherited, descriptor)
            return self._run((*options, *arguments), environment, kept, deadline, stdin, None, allowed)
        finally:
            os.close(descriptor)

    def _transport(self) -> list[tuple[str, str, str]]:
        settings = self.settings
        pairs = (("http.sslCAInfo", "EDIT_CA_FILE", settings.ca_file), ("http.proxy", "EDIT_PROXY", settings.proxy))
        return [pair for pair in pairs if pair[2]]

    def open(
        self, *arguments: str, extra: Mapping[str, str] | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command that is written to and read from while it runs."""
        return subprocess.Popen(
            self._line(arguments),
            env=clean_environment(self.home, "") | dict(extra or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=self.inherited,
            process_group=0,
        )

    def _line(self, arguments: Sequence[str]) -> list[str]:
        return [self.program, f"--git-dir={self.dir}", *arguments]

    def _run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        kept: tuple[int, ...],
        deadline: Deadline,
        stdin: bytes,
        cwd: Path | None,
        allowed: Iterable[int],
    ) -> Done:
        name = next(each for each in arguments if not each.startswith("-"))
        deadline.check(f"git {name} was next")
        try:
            process = subprocess.Popen(
                self._line(arguments),
                env=environment,
                cwd=cwd or self.dir,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=kept,
                process_group=0,
            )
        except OSError as e:
            raise GitFailed(SaveReason.GIT_FAILED, f"git {name} could not be started", str(e)) from e
        with process:
            try:
                out, err = process.communicate(stdin, timeout=deadline.left())
            except subprocess.TimeoutExpired:
                end_group(process)
                raise SaveFailed(
                    SaveReason.DEADLINE, f"git {name} was not done in time", "what it had begun was given up"
                ) from None
        said = self.redact(err.decode(errors="replace"))
        if process.returncode not in allowed:
            raise GitFailed(reason_of(said), f"git {name} failed", said)
        return Done(process.returncode, out, said)

    def redact(self, text: str) -> str:
        """Return the text without secrets, user information in addresses and control characters, and not too long."""
        return redact(text, self.credential.password if self.credential else "")


def redact(text: str, secret: str = "") -> str:
    """Return what a program said, fit for a receipt and a log."""
    if secret:
        text = text.replace(secret, "***")
    text = re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    lines = (line.rpartition("\r")[2].strip() for line in text.strip().replace("\r\n", "\n").split("\n"))
    plain = "; ".join(line for line in lines if line)
    return "".join(c if c.isprintable() else "?" for c in plain)[:SAID]


def reason_of(said: str) -> SaveReason:
    """Return what kind of failure git's words describe (they are English: LC_ALL=C)."""
    return next((reason for pattern, reason in _REASONS if pattern.search(said)), SaveReason.GIT_FAILED)


def origin(remote: str) -> str:
    """Return scheme, host and port of the remote, as git writes them into its questions."""
    parts = urlsplit(remote)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _memory_file(credential: Credential) -> int:
    """Return a descriptor of memory that holds the credential: it is never in a file, an argument or a variable."""
    descriptor = os.memfd_create("credential")
    os.write(descriptor, f"{credential.username}\n{credential.password}\n".encode())
    return descriptor


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a command with everything that it started in its group, and collect it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()
