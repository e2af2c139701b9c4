"""Read the records of this folder. FinetuneError names the stage that writes one that is missing."""

from math import isfinite
from typing import cast

from finetune.core.break_even import UNKNOWN
from finetune.core.damage import read_bytes, remedy_for
from finetune.core.disk import each_jsonl, parse_csv, parse_json, read_csv, read_if_there, read_json, sha256_of
from finetune.core.errors import FinetuneError
from finetune.core.old_records import current_evaluation
from finetune.core.paths import EVALUATION, LEDGER, MODEL, PREPARED, PREPARED_REPORT, TEST_ROWS, VARIANTS
from finetune.core.records.costs import LedgerRow
from finetune.core.records.evaluation import Evaluation
from finetune.core.records.prepared import PrepareReport, TestRow
from finetune.core.records.training import ModelRecord
from finetune.core.records.variants import VariantRecord


def read_prepare_report() -> PrepareReport:
    """Read how the raw data was prepared."""
    report: PrepareReport = read_json(PREPARED_REPORT, "prepare", PrepareReport)
    return report


def read_prepare_report_if_there() -> PrepareReport:
    """Read how the raw data was prepared; {} where nothing is prepared yet."""
    report: PrepareReport = read_if_there(PREPARED_REPORT, "prepare", PrepareReport)
    return report


def read_test_groups() -> list[int]:
    """Read the group of each test row; rows of one group are not independent of each other."""
    return [row["group"] for row in each_jsonl(TEST_ROWS, "prepare", TestRow)]


def read_model_record() -> ModelRecord:
    """Read the record of the fine-tune."""
    record: ModelRecord = read_json(MODEL, "train", ModelRecord)
    return record


def read_variants() -> dict[str, VariantRecord]:
    """Read the records of trainings with other seeds or with fewer rows, by their fingerprints."""
    records: dict[str, VariantRecord] = {}
    for path in sorted(VARIANTS.glob("*.json")):
        remedy = f"Restore it with: git checkout {path}. Or delete it: finetune repeat finds its job and answers again."
        content = read_bytes(path)
        remedy = remedy_for(path, content, remedy)
        found = parse_json(content, str(path), remedy, VariantRecord)
        if missing := sorted(VariantRecord.__required_keys__ - found.keys()):
            raise FinetuneError(f"{path} is no record of a training: it lacks {', '.join(missing)}.", remedy)
        records[found["fingerprint"]] = cast("VariantRecord", found)
    return records


def read_evaluation() -> Evaluation:
    """Read the evaluation, also in the form of an earlier version."""
    return current_evaluation(read_json(EVALUATION, "evaluate", Evaluation))


def read_evaluated_model() -> tuple[ModelRecord, Evaluation]:
    """Read the record and the evaluation. Raises FinetuneError if they are of two models."""
    record, evaluation = read_model_record(), read_evaluation()
    of = evaluation.get("evaluated")
    if of is None:  # an earlier version wrote it
        return record, evaluation
    if (of["model"], of["fingerprint"]) != (record["model"], record["fingerprint"]):
        raise FinetuneError(
            f"{EVALUATION} has the figures of {of['model']}, and {MODEL} is the record of {record['model']}.",
            "Evaluate this model with: dvc repro. Or restore the files of one commit with: git checkout",
        )
    return record, evaluation


def refuse_other_test_rows(evaluation: Evaluation) -> None:
    """Raise FinetuneError if the evaluation is of other test rows than those that are prepared here."""
    of, test = evaluation.get("evaluated"), PREPARED / "test.jsonl"
    if of and test.exists() and sha256_of(test) != of["test_rows"]:
        raise FinetuneError(
            f"{EVALUATION} has figures from other test rows than those in {test}.", "Evaluate again with: dvc repro"
        )


def read_ledger() -> list[dict[str, str]]:
    """Read the jobs of reports/ledger.csv, the oldest first. Raises FinetuneError naming the line that is no job.

    A merge keeps the lines of both sides (.gitattributes), so a job, or the names of the columns, may be there twice.
    """
    found = read_csv(LEDGER, needs=LedgerRow.__annotations__)
    rows = [row for row in found if any(name != cell for name, cell in row.items())]
    for number, row in enumerate(rows, 1):
        if wrong := [name for name in row if not is_cell_of_ledger(name, row[name])]:
            raise FinetuneError(
                f"{LEDGER}, job {number}: {wrong[0]} is not a number.", f"Restore it with: git checkout {LEDGER}"
            )
    once: dict[str, dict[str, str]] = {}
    for row in rows:
        once.setdefault(row["job"], row)
    return list(once.values())


def parse_ledger(text: str) -> list[dict[str, str]]:
    """Return the jobs in the ledger of a commit. What is no job, such as a line of a merge, is left out."""
    return [
        row
        for row in parse_csv(text)
        if None not in row
        and None not in row.values()
        and {"job", "billed_usd"} <= row.keys()
        and all(is_cell_of_ledger(name, cell) for name, cell in row.items())
    ]


def is_cell_of_ledger(name: str, cell: str) -> bool:
    """Return whether a column of the ledger may have a cell: names of any text, and a known or unknown number."""
    if name in ("job", "provider", "base"):
        return bool(cell) or name != "job"
    if name not in LedgerRow.__annotations__ or cell == UNKNOWN or (cell == "" and name != "billed_usd"):
        return True
    try:
        return isfinite(float(cell))
    except ValueError:
        return False
