"""`finetune check`: find mistakes in training files."""

import sys
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Method(str, Enum):
    supervised = "supervised"


class Format(str, Enum):
    text = "text"
    json = "json"
    github = "github"


def check(
    files: Annotated[list[Path], typer.Argument(help="Training files in JSON Lines.")],
    base: Annotated[
        str | None, typer.Option(help="The base model: also find examples over its training context.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="The method to train with; by default, the first example decides.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Another split, which must not have the same questions; repeatable.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="text for people, json for programs, github for annotations.")
    ] = Format.text,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write a repaired copy beside each file, print each change, check the copy.")
    ] = False,
) -> None:
    """Find every mistake in training files, with its line and how to fix it.

    The exit status is 1 if there are errors.

    Examples: finetune check train.jsonl --against test.jsonl · finetune check *.jsonl --format github
    """
    from finetune.data.checks import across_files, findings, repair
    from finetune.pricing.catalogue import look_up
    from finetune.terminal.progress import progress_bar

    known = look_up(base, "openai") if base else None
    if fix:
        files = [repaired(file, *repair.repair(file)) for file in files]
    with progress_bar("check") if sys.stderr.isatty() else nullcontext() as progress:
        report = across_files.check(
            files,
            against or (),
            method=method.value if method else None,
            encoding=known.encoding if known and known.context else None,
            context=known.context if known else None,
            image_prices=known.image_tokens if known else None,
            progress=progress,
        )
    forms = {Format.text: findings.as_text, Format.json: findings.as_json, Format.github: findings.as_github}
    if text := forms[form](report):
        print(text)
    if report["errors"]:
        raise typer.Exit(1)


def repaired(file: Path, target: Path, changes: list[tuple[int, str]]) -> Path:
    """Print each change on standard error, and return the file to check."""
    for line, what in changes:
        print(f"{file}{f':{line}' if line else ''}: fixed: {what}", file=sys.stderr)
    print(f"{file}: " + (f"repaired copy in {target}" if changes else "nothing to repair"), file=sys.stderr)
    return target if changes else file
