"""Read the records of this folder. FinetuneError names the stage that writes one that is missing."""

import json
from typing import cast

from finetune.core.disk import read_json, sha256_of
from finetune.core.errors import FinetuneError
from finetune.core.old_records import current_evaluation
from finetune.core.paths import EVALUATION, MODEL, PREPARED, PREPARED_REPORT, VARIANTS
from finetune.core.records import Evaluation, ModelRecord, PrepareReport, VariantRecord


def read_prepare_report() -> PrepareReport:
    """Read how the raw data was prepared."""
    report: PrepareReport = read_json(PREPARED_REPORT, "prepare")
    return report


def read_model_record() -> ModelRecord:
    """Read the record of the fine-tune."""
    record: ModelRecord = read_json(MODEL, "train")
    return record


def read_variants() -> dict[str, VariantRecord]:
    """Read the records of trainings with other seeds or with fewer rows, by their fingerprints."""
    records: dict[str, VariantRecord] = {}
    for path in sorted(VARIANTS.glob("*.json")):
        remedy = f"Restore it with: git checkout {path}. Or delete it: finetune repeat finds its job and answers again."
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FinetuneError(f"{path} is not valid JSON: {error}", remedy) from error
        if not isinstance(found, dict) or (missing := sorted(VariantRecord.__required_keys__ - found.keys())):
            lacks = f"it lacks {', '.join(missing)}" if isinstance(found, dict) else "it is no object"
            raise FinetuneError(f"{path} is no record of a training: {lacks}.", remedy)
        records[found["fingerprint"]] = cast("VariantRecord", found)
    return records


def read_evaluation() -> Evaluation:
    """Read the evaluation, also in the form of an earlier version."""
    return current_evaluation(read_json(EVALUATION, "evaluate"))


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
