"""Read the records of this folder. FinetuneError names the stage that writes one that is missing."""

from finetune.core.disk import read_json
from finetune.core.old_records import current_evaluation
from finetune.core.paths import EVALUATION, MODEL, PREPARED_REPORT
from finetune.core.records import Evaluation, ModelRecord, PrepareReport


def read_prepare_report() -> PrepareReport:
    """Read how the raw data was prepared."""
    report: PrepareReport = read_json(PREPARED_REPORT, "prepare")
    return report


def read_model_record() -> ModelRecord:
    """Read the record of the fine-tune."""
    record: ModelRecord = read_json(MODEL, "train")
    return record


def read_evaluation() -> Evaluation:
    """Read the evaluation, also in the form of an earlier version."""
    return current_evaluation(read_json(EVALUATION, "evaluate"))
