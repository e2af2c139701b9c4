"""`finetune check`: find mistakes in training files."""

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from finetune.core.params import Params
    from finetune.data.checks.across_files import FileToCheck


class Method(str, Enum):
    supervised = "supervised"
    dpo = "dpo"


class Format(str, Enum):
    text = "text"
    json = "json"
    github = "github"


def check(
    files: Annotated[list[Path], typer.Argument(help="Training files in JSON Lines, or folders of them.")],
    base: Annotated[
        str | None, typer.Option(help="The base model: also find examples over its training context.")
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option(help="The method to train with; by default the project's, else the first example decides."),
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

    A folder stands for its files. In a project, params.yaml gives the method, the base, the labels and, for a file of
    data/prepared, the other splits to compare with; options override it. The exit status is 1 if there are errors.

    Examples: finetune check train.jsonl --against test.jsonl · finetune check data/prepared --format github
    """
    from finetune.data import near_duplicates
    from finetune.data.checks import across_files, findings, project_files, repair
    from finetune.pricing.catalogue import alias_note, look_up
    from finetune.provider.capabilities import refuse_method
    from finetune.terminal.progress import progress_bar, say

    if base and (note := alias_note(base)):
        say(note)
    files, skipped = project_files.expand(files)
    if against:
        against, others = project_files.expand(against)
        skipped += [sentence for sentence in others if sentence not in skipped]
    params = project_params()
    known = look_up(base, "openai") if base else None
    own_method = params.train.method if params else None
    each = [across_files.FileToCheck(path, against or ()) for path in files]
    if params:
        if base is None and method is None:
            refuse_method(params)
        known = look_up(base or params.train.base, params.provider.name)
        each = project_files.files_to_check(params, files, against or ())
        skipped.append(f"from params.yaml: {from_project(params, each, base, method)}.")
    if base and known and known.context is None:
        skipped.append(f"the training context of {known.name} is not known, so examples over it are not looked for.")
    for sentence in skipped:
        say(f"check: {sentence}")
    if fix:
        each = [replace(one, path=repaired(one.path, *repair.repair(one.path))) for one in each]
    with progress_bar("check") if sys.stderr.isatty() else nullcontext() as progress:
        report = across_files.check_each(
            each,
            method=method.value if method else own_method,
            encoding=known.encoding if known and known.context else None,
            context=known.context if known else None,
            image_prices=known.image_tokens if known else None,
            tokens_exact=known is None or known.tokens_exact,
            near=params.data.near if params else near_duplicates.NEAR,
            common=project_files.prepared_common_pieces() if project_files.are_splits(each) else None,
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


def project_params() -> "Params | None":
    """Return the parameters of the project in the current folder; None where it holds no project of this template."""
    from finetune.core.params import load_params
    from finetune.core.paths import PARAMS

    text = PARAMS.read_bytes() if PARAMS.is_file() else b""
    if not all(re.search(rb"^%s:" % section, text, re.MULTILINE) for section in (b"data", b"provider", b"train")):
        return None
    return load_params()


def from_project(params: "Params", files: Sequence["FileToCheck"], base: str | None, method: Method | None) -> str:
    """Return what is taken from the project for these files."""
    parts = [] if method else [f"method {params.train.method}"]
    parts += [] if base else [f"base {params.train.base}"]
    if any(file.labels for file in files):
        parts.append("the classes of data.labels")
    compared = [file for file in files if file.against]
    if len(compared) > 1:
        parts.append("each split compared with the others")
    elif compared:
        parts.append(f"{compared[0].path} compared with {' and '.join(map(str, compared[0].against))}")
    return ", ".join(parts) or "nothing"
