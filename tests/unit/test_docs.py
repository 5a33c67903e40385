"""The documentation says what the code says. `python -m tests.unit.test_docs` writes the generated tables."""

import re
from pathlib import Path

import pytest

from controller.core.model import Reason
from controller.core.reasons import MEANINGS, SYMBOLS

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations.md"


def symbols_table() -> str:
    rows = [f"| `{symbol}` | {meaning} |" for symbol, meaning in SYMBOLS.items()]
    return "\n".join(["| symbol | means |", "|---|---|", *rows])


def reasons_table() -> str:
    rows = [f"| `{reason}` | {MEANINGS[reason]} |" for reason in Reason]
    return "\n".join(["| reason | means |", "|---|---|", *rows])


def with_tables(text: str) -> str:
    """Return the page with its generated tables as they should be."""
    for name, table in (("symbols", symbols_table()), ("reasons", reasons_table())):
        text = re.sub(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", rf"\g<1>{table}\n\g<2>", text, flags=re.DOTALL)
    return text


def test_every_reason_has_one_sentence():
    assert set(MEANINGS) == set(Reason)
    assert all(m.endswith(".") and "\n" not in m for m in MEANINGS.values())


def test_operations_shows_every_symbol_and_reason_as_the_code_has_it():
    page = OPERATIONS.read_text()
    assert with_tables(page) == page, "run: .venv/bin/python -m tests.unit.test_docs"


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_inside_the_project_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


if __name__ == "__main__":
    OPERATIONS.write_text(with_tables(OPERATIONS.read_text()))
