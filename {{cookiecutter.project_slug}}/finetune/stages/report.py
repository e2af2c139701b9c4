"""report: write the page and its short form for a pull request, from the files of the other stages."""

from pathlib import Path
from typing import Any, cast

from finetune.core.disk import parse_json, read_csv, read_if_there, write_text
from finetune.core.errors import FinetuneError
from finetune.core.old_records import model_key
from finetune.core.paths import (
    CURVES,
    EVALUATION,
    EXPORT_REPORT,
    EXPORT_SPEED,
    FILES,
    LATENCY,
    LEDGER,
    MODEL,
    PREPARED_REPORT,
    VALIDATION_REPORT,
)
from finetune.core.read_records import read_evaluated_model, read_prepare_report_if_there
from finetune.core.records.answers import Latencies
from finetune.core.records.checks import ValidationReport
from finetune.core.records.evaluation import Evaluation
from finetune.core.records.exports import ExportReport
from finetune.core.records.training import FilesRecord, ModelRecord
from finetune.project.history import git, record_at
from finetune.report.headline import headline
from finetune.report.lineage_facts import lineage_facts
from finetune.report.markdown import make_markdown
from finetune.report.page import make_page
from finetune.report.stage_outputs import Results

TABLES = [
    CURVES,
    LEDGER,
    *(
        Path(f"reports/{name}.csv")
        for name in (
            "classes",
            "confusion_base",
            "confusion_tuned",
            "calibration",
            "rows",
            "groups",
            "metrics",
            "pairs",
        )
    ),
]
PAGE = Path("reports/report.html")
MARKDOWN = Path("reports/report.md")


def run() -> str:
    """Write the page and the Markdown, and return the verdict as a clause. Raises FinetuneError without a fine-tune."""
    record, evaluation = read_evaluated_model()
    commit, former_commit = commits_before(record)
    results = Results(
        record=record,
        evaluation=evaluation,
        files=read_if_there(FILES, "upload", FilesRecord),
        prepared=read_prepare_report_if_there() or None,
        validation=read_if_there(VALIDATION_REPORT, "validate", ValidationReport) or None,
        latency={model_key(name): times for name, times in read_if_there(LATENCY, "evaluate", Latencies).items()},
        tables={path.stem: read_csv(path) for path in TABLES},
        commit=commit,
        former=lineage_at(former_commit) if former_commit else {},
        former_commit=former_commit,
        exports=exports_of(evaluation),
        export_speeds=read_if_there(EXPORT_SPEED, "export"),
    )
    write_text(PAGE, make_page(results))
    write_text(MARKDOWN, make_markdown(results))
    return headline(results.evaluation).clause


def exports_of(evaluation: Evaluation) -> ExportReport | None:
    """Return the report on the exported formats; None without one. Raises FinetuneError if it is of another model."""
    found: ExportReport = read_if_there(EXPORT_REPORT, "export", ExportReport)
    if not found or not found["export"]:
        return None
    if "evaluated" in evaluation and found["evaluated"] != evaluation["evaluated"]:
        raise FinetuneError(
            f"{EXPORT_REPORT} has the figures of {found['evaluated']['model']}, and {EVALUATION} those of"
            f" {evaluation['evaluated']['model']}, or of other test rows.",
            "Export this model with: dvc repro export",
        )
    return found


def commits_before(record: ModelRecord) -> tuple[str, str]:
    """Return the parent of the commit that added this model, and the last commit before it with another model.

    Either is "" if there is none. Before this model is committed, its parent is HEAD: so the report is the same before
    and after the commit.
    """
    parent = git("rev-parse", "--quiet", "--verify", "HEAD").strip()
    for commit in git("log", "--format=%H", "--", MODEL.as_posix()).split():
        try:
            committed = record_at(commit)
        except FinetuneError:  # this commit deleted the record
            continue
        if committed != record:
            return parent, commit
        parent = git("rev-parse", "--quiet", "--verify", f"{commit}^").strip()
    return parent, ""


def lineage_at(commit: str) -> dict[str, str]:
    """Return the lineage of the model of a commit."""
    texts = [git("show", f"{commit}:./{path.as_posix()}") or "{}" for path in (FILES, PREPARED_REPORT)]
    files, prepared = (cast("Any", parse_json(text.encode(), f"a record of {commit}", "")) for text in texts)
    return lineage_facts(record_at(commit), files, prepared)
