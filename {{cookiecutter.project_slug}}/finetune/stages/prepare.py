"""prepare: raw data → chat examples in three splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.data.prompts import cell_text
from finetune.data.readers import Row, read_rows
from finetune.data.rules import Example
from finetune.data.shapes import each_turn, examples_of
from finetune.data.split import key_of, split_examples, without_duplicates, without_leaks
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.record import write_json, write_jsonl

PREPARED = Path("data/prepared")
REPORT = Path("reports/prepare.json")


def run(params: Params) -> dict[str, Any]:
    """Write the splits and the report, which comes back: counts, and under `source` how the raw data were read."""
    source = Path(params.data.file)
    rows, note = read_rows(source, params.data.sheet)
    template = params.data.prompt.model_dump() if params.data.prompt else None
    examples, note["rows"] = examples_of(rows, params.data.format, template, str(source))
    keys = keys_of(rows, examples, params.data.group, str(source))
    keyed = [
        (key, turn)
        for key, example in zip(keys, examples, strict=True)
        for turn in (each_turn(example) if params.data.turns == "each" else [example])
    ]
    distinct = without_duplicates(keyed)
    splits, near = without_leaks(split_examples(distinct, params.data.split.model_dump()))
    counts = {"rows": len(rows), "duplicates": len(keyed) - len(distinct), "near_duplicates_left_out": near}
    counts |= {name: len(part) for name, part in splits.items()}
    for name, part in splits.items():
        write_jsonl(PREPARED / f"{name}.jsonl", part)
    report = counts | {"source": note}
    write_json(REPORT, report)
    return report


def keys_of(rows: Sequence[Row], examples: Sequence[Example], group: str | None, source: str) -> list[str]:
    """What decides the split of each row: its cell in the column `group`, else the text that its example asks with.

    Raises FinetuneError where the column is missing or a cell of it is empty.
    """
    if group is None:
        return [key_of(example) for example in examples]
    keys = [cell_text(row.get(group)).strip() for row in rows]
    empty = [str(number) for number, key in enumerate(keys, 1) if not key]
    if empty:
        raise FinetuneError(
            f"data.group names {group!r}, which is empty in {source} in rows {', '.join(empty[:10])}.",
            f"Fill that column, or name another of: {', '.join(sorted(rows[0]))}.",
        )
    return keys
