"""The rules of the house that no linter knows. CONTRIBUTING.md has the reasons."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from controller.core import identity

ROOT = Path(__file__).parents[2]

# Where a package from outside may be imported. A package that is not here has no home yet: add it knowingly.
HOMES: dict[str, tuple[str, ...]] = {
    "boto3": ("controller.aws",),
    "botocore": ("controller.aws",),
    "click": ("controller.cli",),
    "flask": ("controller.local",),
    "kopf": ("controller.kubernetes",),
    "moto": ("controller.local",),
    "prometheus_client": ("controller.metrics",),
    "pydantic": ("controller.config", "controller.kubernetes"),
    "pydantic_settings": ("controller.config",),
    "rich": ("controller.cli",),
    "werkzeug": ("controller.local",),
}

# Parts that know these of our own modules and no others: core because it is pure, agent because it runs in the
# users' images, local because it must not learn what it is there to test.
SPARE: dict[str, tuple[str, ...]] = {
    "controller.agent": ("controller.core.identity", "controller.errors"),
    "controller.core": ("controller.errors",),
    "controller.errors": (),
    "controller.local": ("controller.errors",),
}

# No registry (the pins must install from any mirror), no place on somebody's machine.
REGISTRIES = r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|proxy\.golang\.org|deb\.debian\.org|maven\.org"
MACHINE_PATHS = r"(?<![\w.$}{])/(?:root|work|farm)/|/Users/\w"
UNWANTED_TEXT = re.compile(f"{REGISTRIES}|{MACHINE_PATHS}")

# Calls that answer differently each time, in modules that core may well import for other things.
UNREPEATABLE = re.compile(r"(?:^|\.)(?:(?:datetime|date)\.(?:now|utcnow|today)|uuid[14])$")

PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)


@cache
def files() -> tuple[Path, ...]:
    """Return every file that is, or would be, committed."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(path for name in sorted(set(listing.split("\0")) - {""}) if (path := ROOT / name).is_file())


def sources(folder: str) -> list[Path]:
    """Return the Python files of a folder."""
    return [path for path in files() if path.suffix == ".py" and path.is_relative_to(ROOT / folder)]


@cache
def tree(path: Path) -> ast.Module:
    """Return a file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, node: ast.AST) -> str:
    """Return where something is, as an editor wants it."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def module_name(path: Path) -> str:
    """Return the dotted name of one of our files."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_within(module: str, packages: tuple[str, ...]) -> bool:
    """Tell whether a module is one of the packages or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Yield the dotted name of each module that a file imports."""
    names = {module_name(each) for each in sources("controller")}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield node, inner if inner in names else module


def locked(name: str) -> dict[str, str]:
    """Return the pins of one set of requirements."""
    return dict(PIN.findall((ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")))


def none_of(found: Iterable[str]) -> None:
    """Fail with everything that was found."""
    lines = list(found)
    assert not lines, "\n" + "\n".join(lines)


def test_no_file_names_a_registry_or_a_place_on_a_machine():
    found = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(text.splitlines(), start=1)
            if UNWANTED_TEXT.search(line)
        ]
    none_of(found)


@pytest.mark.parametrize(
    ("text", "unwanted"),
    [
        ("--index-url https://pypi." + "org/simple", True),
        ("cd /work" + "/main", True),
        ("#!/root" + "/.venv/bin/python", True),
        ("WORKSPACE_PATH=/workspace/acme/website", False),
        ("see docs/work/notes.md", False),
        ("a mirror of PyPI", False),
    ],
)
def test_the_search_for_such_names_finds_what_it_should(text, unwanted):
    assert bool(UNWANTED_TEXT.search(text)) is unwanted


def test_there_is_one_way_to_pin():
    other_locks = {"Pipfile.lock", "pdm.lock", "poetry.lock", "pylock.toml", "uv.lock"}
    none_of(str(path.relative_to(ROOT)) for path in files() if path.name in other_locks)


def test_all_sets_pin_the_same_versions():
    everything = locked("dev")
    for name in ("runtime", "local", "build"):
        pins = locked(name)
        assert pins
        assert {package: version for package, version in pins.items() if everything.get(package) != version} == {}


def test_what_the_package_declares_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    base = project["dependencies"]
    for name, declared in (
        ("runtime", base + extras["kubernetes"]),
        ("local", base + extras["local"]),
        # Large, and of no use to anything but the templates: in an environment of its own.
        ("cdk", extras["cdk"]),
        ("dev", sum((extras[each] for each in extras if each != "cdk"), base)),
    ):
        wanted = {re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0] for each in declared}
        assert wanted - locked(name).keys() == set(), f"requirements/{name}.txt is behind pyproject.toml: make lock"


def test_packages_from_outside_stay_in_their_homes():
    found = []
    for path in sources("controller"):
        module = module_name(path)
        for node, imported in imports(path):
            package = imported.partition(".")[0]
            if package == "controller" or package in sys.stdlib_module_names:
                continue
            if not is_within(module, HOMES.get(package, ())):
                found.append(f"{place(path, node)} imports {imported}")
    none_of(found)


@pytest.mark.parametrize("part", SPARE)
def test_spare_parts_stand_on_little(part):
    found = []
    for path in sources("controller"):
        if not is_within(module_name(path), (part,)):
            continue
        allowed = (part, *SPARE[part])
        found += [
            f"{place(path, node)} imports {imported}"
            for node, imported in imports(path)
            # The package itself is its version and nothing else.
            if imported.startswith("controller.") and not is_within(imported, allowed)
        ]
    none_of(found)


def test_core_reads_no_clock_and_draws_no_names():
    found = [
        place(path, node)
        for path in sources("controller/core")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and UNREPEATABLE.search(ast.unparse(node.func))
    ]
    none_of(found)


def test_a_dry_run_is_a_plan_that_is_not_applied():
    found = [
        f"{place(path, node)} {node.name}"
        for path in sources("controller")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and "dry_run" in {each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    ]
    none_of(found)


def test_tag_keys_are_spelled_in_one_file():
    keys = {value for name, value in vars(identity).items() if name.startswith("TAG_")}
    assert {"ContainerId", "ClientId", "ProjectId", "UserId"} <= keys
    found = [
        f"{place(path, node)} {node.value!r}"
        for path in sources("controller")
        if path != ROOT / "controller/core/identity.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and node.value in keys
    ]
    none_of(found)


def test_no_test_sleeps():
    """A benchmark in real time lets sessions come at their times; nothing there is passed or failed."""
    found = [
        place(path, node)
        for path in sources("tests")
        if path.name != "hints.py" or path.parent.name != "bench"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}
    ]
    none_of(found)
