"""A project in which `finetune init` is run, and files of one's own for it."""

import csv
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from finetune.cli import app

ROOT = Path(__file__).parents[1]
WORDS = """parcel order invoice refund screen login password address window lamp desk chair courier payment card
receipt account phone support week month today tomorrow city street house garden kitchen bridge river"""
Rows = list[dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a project with only what `init` needs, and return its folder; the user's files are beside it."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("also", "replay"):
        shutil.copytree(ROOT / "data" / name, folder / "data" / name)
    monkeypatch.chdir(folder)
    return folder


def texts(rows: int, words: str = WORDS, length: int = 14, space: str = " ") -> list[str]:
    draw = random.Random(rows + length)
    return [space.join(draw.choice(words.split()) for _ in range(length)) for _ in range(rows)]


def table(path: Path, rows: Rows, encoding: str = "utf-8") -> Path:
    with open(path, "w", newline="", encoding=encoding) as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def lines(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def messages(rows: int = 120) -> Rows:
    return [{"message": text, "team": ("sales", "billing", "sales")[n % 3]} for n, text in enumerate(texts(rows))]


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["init", *map(str, arguments)], input=typed)


def done(*arguments: object) -> str:
    """Run init with --yes, and return what it printed. Its last line is the next command."""
    result = run(*arguments, "--yes")
    assert result.exit_code == 0, f"{result.output}\n{result.exception}"
    assert result.stdout.endswith("Next: dvc repro\n")
    return result.stdout


def values() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(Path("params.yaml").read_text(encoding="utf-8")))
