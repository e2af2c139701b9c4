"""prepare: raw data → chat examples in three splits."""

from pathlib import Path
from typing import Any

from finetune.data.prompts import build_examples
from finetune.data.readers import read_rows
from finetune.data.split import split_examples, without_duplicates, without_leaks
from finetune.params import Params
from finetune.record import write_json, write_jsonl

PREPARED = Path("data/prepared")
REPORT = Path("reports/prepare.json")


def run(params: Params) -> dict[str, Any]:
    """Write the splits and the report, which comes back: counts, and under `source` how the raw data were read."""
    source = Path(params.data.file)
    rows, note = read_rows(source, params.data.sheet)
    examples = build_examples(rows, params.data.prompt.model_dump(), str(source))
    distinct = without_duplicates(examples)
    splits, near = without_leaks(split_examples(distinct, params.data.split.model_dump()))
    counts = {"rows": len(rows), "duplicates": len(rows) - len(distinct), "near_duplicates_left_out": near}
    counts |= {name: len(part) for name, part in splits.items()}
    for name, part in splits.items():
        write_jsonl(PREPARED / f"{name}.jsonl", part)
    report = counts | {"source": note}
    write_json(REPORT, report)
    return report
