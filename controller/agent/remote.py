"""What the remote has, and giving it more: never by force, and believed only as far as the remote itself says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from controller.agent.credential import obtain
from controller.agent.failures import GitFailed
from controller.agent.git import Deadline, Done, Git, reason_of
from controller.agent.protocol import SaveReason
from controller.agent.untrusted import missing

ASK_TIMEOUT = 30


@dataclass(frozen=True, slots=True)
class RemoteRefs:
    """The branches of the remote, and the one that its HEAD names."""

    heads: Mapping[str, str]
    default: str = ""


class Remote:
    """The configured remote; its address is always given on the command line."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._url = git.settings.remote

    def refs(self, deadline: Deadline) -> RemoteRefs:
        """Return what the remote has now. Raises GitFailed."""
        done = self._ask(["ls-remote", "--symref", self._url, "HEAD", "refs/heads/*"], deadline.within(ASK_TIMEOUT))
        heads: dict[str, str] = {}
        default = ""
        for line in done.out.decode(errors="surrogateescape").splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                default = value[5:]
            elif name.startswith("refs/heads/"):
                heads[name] = value
        return RemoteRefs(heads, default)

    def fetch(self, refs: Iterable[str], deadline: Deadline, *, tags: bool = False) -> None:
        """Bring branches of the remote into refs/remote/heads/…. Raises GitFailed."""
        told = "".join(f"+{ref}:{tracking(ref)}\n" for ref in refs)
        if told:
            told += "+refs/tags/*:refs/tags/*\n" if tags else ""
            self._ask(["fetch", *_FETCH, "--stdin", self._url], deadline, told.encode("utf-8", "surrogateescape"))

    def push(self, commits: Mapping[str, str], deadline: Deadline) -> dict[str, str]:
        """Push each commit to its ref if that loses nothing; return why by ref for those that were refused.

        Raises GitFailed when the remote could not be spoken to.
        """
        if not commits:
            return {}
        specs = [f"{commit}:{ref}" for ref, commit in commits.items()]
        command = ["push", "--porcelain", "--no-verify", "--no-progress", self._url, *specs]
        done = self._ask(command, deadline, allowed=(0, 1))
        refused: dict[str, str] = {}
        told: set[str] = set()
        for line in done.out.decode(errors="surrogateescape").splitlines():
            flag, _, rest = line.partition("\t")
            spec, _, why = rest.partition("\t")
            ref = spec.partition(":")[2]
            if ref in commits:
                told.add(ref)
                if flag == "!":
                    refused[ref] = _why(why, done.said)
        if done.code and not refused:
            raise GitFailed(reason_of(done.said), "git push failed", done.said)
        return refused | {ref: "the push did not say what became of it" for ref in commits if ref not in told}

    def _ask(self, command: list[str], deadline: Deadline, stdin: bytes = b"", allowed: Iterable[int] = (0,)) -> Done:
        git = self._git
        if git.credential is None:
            git.credential = obtain(git.settings, deadline)
        try:
            return git.remote(*command, deadline=deadline, stdin=stdin, allowed=allowed)
        except GitFailed as e:
            if e.reason is not SaveReason.CREDENTIAL_REFUSED or git.credential is None:
                raise
            # It may have expired since it was printed.
            git.credential = obtain(git.settings, deadline)
            return git.remote(*command, deadline=deadline, stdin=stdin, allowed=allowed)


_FETCH = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--no-recurse-submodules",
    "--no-auto-maintenance",
    "--no-show-forced-updates",
)


def tracking(ref: str) -> str:
    """Return where the agent's repository keeps a branch of the remote."""
    return "refs/remote/" + ref.removeprefix("refs/")


def _why(summary: str, said: str) -> str:
    told = "; ".join(line[8:].strip() for line in said.split("; ") if line.startswith("remote: "))
    return f"{summary}: {told}"[:500] if told else summary


def have(git: Git, commits: Iterable[str], deadline: Deadline) -> set[str]:
    """Return which of these commits the agent's repository has."""
    wanted = set(commits)
    return wanted - set(missing(git, wanted, deadline))
