"""The pins with hashes are those of the constraints, and complete."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
# What the project is built with, which `make setup` without hashes leaves to pip.
BUILT_WITH = {"editables", "hatchling", "trove-classifiers"}


def pins(*files: Path) -> list[str]:
    """Return the pins of files, with their markers and hashes, each on one line."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in files).replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_each_pin_has_hashes_and_is_a_constraint(lock: Path) -> None:
    constraints = set(pins(*ROOT.glob("constraints*.txt")))
    for line in pins(lock):
        pin, *hashes = re.split(r"\s+--hash=", line.strip())
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes)
        assert pin in constraints or pin.split("==")[0] in BUILT_WITH


def test_all_that_the_project_needs_has_hashes() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(r"^(?:dependencies|dev|engine|requires) = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    needed = {name.lower().replace(".", "-") for part in lists for name in re.findall(r'"([\w.-]+)[<>=]', part)}
    assert len(needed) > 30
    assert needed <= {line.split("==")[0] for line in pins(*LOCKS)}
