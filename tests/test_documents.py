"""The template's own documents: their links and pictures exist, and the site has every page of the project."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

PAGES = sorted(ROOT.glob("*.md"))
PROJECT = next(ROOT.glob("*cookiecutter.project_slug*"))
PICTURES = sorted((ROOT / "website" / "pictures").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8")):
        assert "://" in target or (ROOT / target).exists(), target


def test_pictures_are_small_and_load_nothing() -> None:
    assert {picture.name for picture in PICTURES} == {"report.png", "show.svg"}
    assert sum(picture.stat().st_size for picture in PICTURES) < 300_000
    svg = (ROOT / "website" / "pictures" / "show.svg").read_text(encoding="utf-8")
    assert "@font-face" not in svg
    assert "url(http" not in svg


def test_the_site_has_each_page_of_the_project() -> None:
    text = (ROOT / "website" / "mkdocs.yml").read_text(encoding="utf-8").replace("!!python/name:", "")
    listed = set(re.findall(r"[\w-]+\.md", str(YAML(typ="safe").load(text)["nav"])))
    pages = {page.name for page in (PROJECT / "docs").glob("*.md")}
    assert listed == pages - {"start.md"} | {"index.md", "errors.md"}
