"""report: the page and its short form for a pull request, from the files of the other stages alone."""

import csv
import json
from pathlib import Path
from typing import Any

from finetune.core.disk import read_json, read_note, write_text
from finetune.core.errors import FinetuneError
from finetune.core.paths import CURVES, EVALUATION, FILES, LATENCY, LEDGER, MODEL, PREPARED_REPORT, VALIDATION_REPORT
from finetune.project.history import git, record_at
from finetune.report.facts import Results, headline, lineage
from finetune.report.markdown import make_markdown
from finetune.report.page import make_page

TABLES = [
    CURVES,
    LEDGER,
    *(
        Path(f"reports/{name}.csv")
        for name in ("classes", "confusion_base", "confusion_tuned", "calibration", "rows", "groups", "pairs")
    ),
]
PAGE = Path("reports/report.html")
MARKDOWN = Path("reports/report.md")
LONGEST_CELL = 2**31 - 1  # a prompt may be longer than Python's own limit


def run() -> str:
    """Write the page and the Markdown; the verdict in a clause comes back."""
    record = read_json(MODEL, "train")
    evaluation = read_json(EVALUATION, "evaluate")
    files, prepared = read_note(FILES), read_note(PREPARED_REPORT)
    commit, former_commit = places(record)
    results = Results(
        record=record,
        evaluation=evaluation,
        files=files,
        prepared=prepared,
        validation=read_note(VALIDATION_REPORT),
        latency=read_note(LATENCY),
        tables={path.stem: read_csv(path) for path in TABLES},
        commit=commit,
        former=lineage_at(former_commit) if former_commit else {},
        former_commit=former_commit,
    )
    write_text(PAGE, make_page(results))
    write_text(MARKDOWN, make_markdown(results))
    return headline(evaluation)[1]


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table; none where it is missing."""
    if not path.exists():
        return []
    csv.field_size_limit(LONGEST_CELL)
    with open(path, encoding="utf-8", newline="") as table:
        return list(csv.DictReader(table))


def places(record: dict[str, Any]) -> tuple[str, str]:
    """The commit that a model was trained on top of, and the last one before it with another model.

    Either may be "": there is none. Both are the same before the model is committed and after, and so is the report.
    """
    top = git("rev-parse", "--quiet", "--verify", "HEAD").strip()
    for commit in git("log", "--format=%H", "--", MODEL.as_posix()).split():
        try:
            there = record_at(commit)
        except FinetuneError:  # the commit that took the record away
            continue
        if there != record:
            return top, commit
        top = git("rev-parse", "--quiet", "--verify", f"{commit}^").strip()
    return top, ""


def lineage_at(commit: str) -> dict[str, str]:
    """Where the model of a commit comes from."""
    files, prepared = (
        json.loads(git("show", f"{commit}:./{path.as_posix()}") or "{}") for path in (FILES, PREPARED_REPORT)
    )
    return lineage(record_at(commit), files, prepared)
