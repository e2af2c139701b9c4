"""Build the documentation site in build/website/site from the default project's docs/, with all links checked.

The page of all error messages is only there: it is written from the code, and changes with every message.
"""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "website"
OTHER = "…"  # in place of what is known only when a message is made


def text_of(node: ast.expr) -> str:
    """Return the text of an expression, with … for its variable parts."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(text_of, node.values))
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return OTHER


def errors_of(path: Path) -> list[tuple[str, str]]:
    """Return the messages of the errors that a file raises, each with what to do."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "FinetuneError":
            what, remedy = [*map(text_of, node.args), ""][:2] if node.args else ("", "")
            if what.strip(f"{OTHER} .:"):
                found.append((what, remedy))
    return found


def cell(text: str) -> str:
    """Return a text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")


def errors_page(package: Path) -> str:
    """Return the page of all error messages, by the part of the code that they come from."""
    lines = ["# All error messages", "", f"`{OTHER}` stands for names, numbers and reasons. By the folder of the code."]
    for room in sorted(path for path in package.iterdir() if path.is_dir() and path.name != "engine"):
        errors = sorted({error for path in room.rglob("*.py") for error in errors_of(path)})
        if errors:
            lines += ["", f"## {room.name}", "", "| message | what to do |", "|---|---|"]
            lines += [f"| {cell(what)} | {cell(remedy)} |" for what, remedy in errors]
    return "\n".join(lines) + "\n"


def main() -> None:
    shutil.rmtree(BUILD, ignore_errors=True)
    project = Path(cookiecutter(str(ROOT), no_input=True, output_dir=str(BUILD)))
    pages = BUILD / "pages"
    shutil.copytree(project / "docs", pages)
    (pages / "start.md").rename(pages / "index.md")
    (pages / "errors.md").write_text(errors_page(project / "finetune"), encoding="utf-8")
    shutil.rmtree(project)
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(ROOT / "website" / "mkdocs.yml"),
    ]
    raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
