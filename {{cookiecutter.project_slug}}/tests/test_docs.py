"""README.md and docs/: links lead somewhere; the reference and the commands behind `make` are what the code has."""

import re
from pathlib import Path

import pytest
from reference import commands_page, params_page

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        goal = (page.parent / name).resolve() if name else page
        assert goal.exists(), f"{page.name}: there is no {name}"
        assert not anchor or anchor in anchors(goal), f"{page.name}: {goal.name} has no heading {anchor}"


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 120
    for page in PAGES[1:]:
        assert f"(docs/{page.name})" in readme


def test_the_reference_is_what_the_code_says() -> None:
    again = "Write it again: python tests/reference.py"
    assert (ROOT / "docs" / "params.md").read_text(encoding="utf-8") == params_page(), again
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == commands_page(), again


def test_each_make_target_has_its_commands_in_the_documents() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "without-make.md").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.+)$", makefile, flags=re.M)
    assert targets
    for target in targets[1].split():
        assert f"## make {target}\n" in page
    for line in re.findall(r"^\t(\$\((?:BIN|PIP)\).+)$", makefile, flags=re.M):
        plain = line.replace("$(PIP)", ".venv/bin/python -m pip install").replace("$(BIN)", ".venv/bin")
        assert plain in page, f"without-make.md lacks: {plain}"
