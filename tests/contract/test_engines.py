"""The suite itself: rules name sources that say so, lines name rules, the page says what the suite says.

`python -m tests.contract.test_engines` writes the tables of docs/engines.md.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.contract import engines, test_dynamodb, test_ecs, test_tables
from tests.contract.differences import DIFFERENCES, line_of, still_differs
from tests.contract.engines import HOST, ROOT, Ministack
from tests.contract.rules import Rule, documented, plain, rules_of

PAGE = ROOT / "docs" / "engines.md"
NAMES = {"ministack": "ministack", "moto": "moto"}
LINE = ("moto", "a_page_has_100_tasks")

WITH_RULES = (test_ecs, test_dynamodb)
RULES = {name: rule for module in WITH_RULES for name, rule in rules_of(module).items()}


def named(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the tests of a module by the names that lines use."""
    return (
        (name.removeprefix("test_"), value)
        for name, value in vars(module).items()
        if name.startswith("test_") and callable(value)
    )


def cases_of(test: Any) -> list[str]:
    """Return the ids of a parametrized test."""
    found: list[str] = []
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            ids = mark.kwargs.get("ids")
            found += ids if isinstance(ids, list) else map(str, mark.args[1])
    return found


# Rules


@pytest.mark.parametrize("module", WITH_RULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_test_of_the_contract_is_a_rule(module: ModuleType) -> None:
    assert [name for name, test in named(module) if not hasattr(test, "rule")] == []


def test_no_two_tests_have_one_name() -> None:
    names = [name for module in (*WITH_RULES, test_tables) for name, _ in named(module)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_the_words_of_an_api_reference_are_in_it(rule: Rule) -> None:
    """AWS's service models, which the SDK carries, have the words of the API references."""
    if rule.source.model is not None:
        assert plain(rule.source.words) in documented(*rule.source.model)
    assert rule.source.where
    assert rule.source.words


# Differences


def test_every_line_is_about_a_test_there_is() -> None:
    known = {
        (engine, line)
        for module in (*WITH_RULES, test_tables)
        for engine in module.ENGINES
        for name, test in named(module)
        for line in (name, *(f"{name}[{case}]" for case in cases_of(test)))
    }
    assert set(DIFFERENCES) - known == set()


def test_the_strict_ecs_has_no_line() -> None:
    assert [
        rule for engine, rule in DIFFERENCES if engine == "local" and rule.partition("[")[0] in rules_of(test_ecs)
    ] == []


@pytest.mark.parametrize("broken", [AssertionError("no"), pytest.fail.Exception("DID NOT RAISE KeyError")], ids=repr)
def test_a_rule_that_is_broken_as_its_line_says_passes(broken: BaseException) -> None:
    with still_differs(*LINE):
        raise broken


def test_a_rule_that_is_kept_though_a_line_says_otherwise_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="moto keeps the rule a_page_has_100_tasks now: remove its line"):
        with still_differs(*LINE):
            pass


@pytest.mark.parametrize("mistake", [KeyError("x"), pytest.fail.Exception("Timeout (>60s)"), OSError()], ids=repr)
def test_a_mistake_of_a_test_is_no_difference(mistake: BaseException) -> None:
    with pytest.raises(type(mistake)), still_differs(*LINE):
        raise mistake


def test_a_line_can_be_about_one_case() -> None:
    rule, case = "what_a_condition_means", "n < :text"
    assert line_of("local", rule, case) == ("local", f"{rule}[{case}]")
    assert line_of("local", rule, "n = :two") is None
    assert line_of(*LINE, "any") == LINE


# ministack


def test_without_ministack_a_person_is_told_how_to_get_it_and_ci_fails() -> None:
    with pytest.raises(pytest.skip.Exception, match="`make ministack`"):
        engines.missing(in_ci=False)
    with pytest.raises(pytest.fail.Exception, match="`make ministack`"):
        engines.missing(in_ci=True)


def test_ministack_listens_on_loopback_and_ends_when_told(ministack: Ministack, tmp_path: Path) -> None:
    second = Ministack(tmp_path)
    assert listens(second.port)
    assert second.port != ministack.port
    second.close()
    assert not listens(second.port)
    second.close()
    assert listens(ministack.port)


def test_ministack_ends_with_whoever_started_it(ministack: Ministack, tmp_path: Path) -> None:
    program = """
import os, signal, sys
from pathlib import Path
from tests.contract.engines import Ministack
print(Ministack(Path(sys.argv[1])).port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=40
    )
    assert killed.returncode == -9, killed.stderr
    port = int(killed.stdout)
    # It notices when the pipe from its starter closes, within milliseconds.
    assert any(not listens(port) for _ in range(10_000))


def test_accounts_of_one_engine_are_apart(ministack: Ministack) -> None:
    one, other = (ministack.engine().client("sqs") for _ in range(2))
    one.create_queue(QueueName="q")
    assert len(one.list_queues()["QueueUrls"]) == 1
    assert other.list_queues().get("QueueUrls", []) == []


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a port of loopback."""
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


# The page


def table(module: ModuleType, shown: Mapping[str, str]) -> str:
    """Return the rules in which an engine of a module differs, and what it does instead."""
    rows = [f"| AWS | written where | {' | '.join(shown.values())} |", f"|---|---|{'---|' * len(shown)}"]
    for name, rule in rules_of(module).items():
        cells = [instead(engine, name) for engine in shown]
        if any(cells):
            rows.append(f"| {rule.sentence} | {source(rule)} | {' | '.join(cell or 'the same' for cell in cells)} |")
    return escaped("\n".join(rows))


def kept(module: ModuleType) -> str:
    """Return the rules that every engine of a module keeps."""
    rows = ["| AWS, and every engine | written where |", "|---|---|"]
    for name, rule in rules_of(module).items():
        if not any(instead(engine, name) for engine in module.ENGINES):
            rows.append(f"| {rule.sentence} | {source(rule)} |")
    return escaped("\n".join(rows))


def instead(engine: str, name: str) -> str:
    """Return what an engine does instead of keeping a rule, empty if it keeps it."""
    found = {
        rule: text for (who, rule), text in DIFFERENCES.items() if who == engine and rule.partition("[")[0] == name
    }
    parts = [f"{text} (`{rule[len(name) + 1 : -1]}`)" if "[" in rule else text for rule, text in found.items()]
    return "; ".join(parts)


def source(rule: Rule) -> str:
    """Return where a rule is written, with the words."""
    return f"{rule.source.where}: “{rule.source.words}”"


def escaped(text: str) -> str:
    """Return a table in whose cells nothing is taken for markup, code in backticks left alone."""
    return re.sub(r"(`[^`\n]*`)|([*_])", lambda found: found[1] or "\\" + found[2], text)


def with_tables(text: str) -> str:
    """Return the page with its tables as they should be."""
    tables = {
        "ecs": table(test_ecs, NAMES),
        "ecs-kept": kept(test_ecs),
        "dynamodb": table(test_dynamodb, {"local": "local endpoint (moto)", "ministack": "ministack"}),
        "dynamodb-kept": kept(test_dynamodb),
    }
    for name, rows in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(begin)
        assert found, f"the page has no place for {name}"
        text = f"{before}{begin}{rows}\n{end}{rest.partition(end)[2]}"
    return text


def test_the_page_says_what_the_suite_says() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert with_tables(written) == written, "run: .venv/bin/python -m tests.contract.test_engines"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
