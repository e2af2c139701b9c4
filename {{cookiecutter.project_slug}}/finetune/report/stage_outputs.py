"""The files that the report is made from."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from finetune.core.records.answers import Latency
from finetune.core.records.checks import ValidationReport
from finetune.core.records.evaluation import Evaluation
from finetune.core.records.exports import ExportReport, ExportSpeed
from finetune.core.records.prepared import PrepareReport
from finetune.core.records.training import FilesRecord, ModelRecord

Row = dict[str, str]  # one row of a CSV file: cells by column


class Results(NamedTuple):
    """What the other stages wrote. A table that is missing has no rows."""

    record: ModelRecord
    evaluation: Evaluation
    files: FilesRecord
    prepared: PrepareReport | None
    validation: ValidationReport | None
    latency: dict[str, Latency]  # by model
    tables: dict[str, list[Row]]  # by file name without `.csv`
    commit: str  # the last one before the commit of the model; "" if there is none
    former: dict[str, str]  # the lineage of the fine-tune before this one
    former_commit: str
    exports: ExportReport | None = None
    export_speeds: Mapping[str, ExportSpeed] = MappingProxyType({})  # by format


def by_model(rows: Sequence[Row], column: str) -> dict[str, dict[str, Row]]:
    """Return the rows of a table by their cell in `column`, and then by model."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row[column], {})[row["model"]] = row
    return found
