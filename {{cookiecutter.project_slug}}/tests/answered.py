"""Write invented files of the paid stages, as in a project after `train`, `baseline` and `tuned`."""

from pathlib import Path
from typing import Any

from finished import record

from finetune.core.disk import read_json, read_jsonl, sha256_of, write_csv, write_json, write_jsonl
from finetune.core.paths import (
    ANSWERED_BY,
    BASE_ALSO_ANSWERS,
    BASE_ANSWERS,
    BASE_LATENCY,
    COMPARED_ANSWERS,
    CURVES,
    FEW_SHOT_ANSWERS,
    FILES,
    GRADER_REPLIES,
    JUDGE_REPLIES,
    LEDGER,
    MODEL,
    PREPARED,
    QUESTIONS,
    TUNED_ALSO_ANSWERS,
    TUNED_ANSWERS,
    TUNED_LATENCY,
)
from finetune.project.ledger import COLUMNS


def write_answers(folder: Path) -> None:
    """Write records and answers for the prepared data of a project: the base is always wrong, the tuned one right."""
    examples = read_jsonl(folder / PREPARED / "test.jsonl", "prepare")
    questions = read_json(folder / QUESTIONS, "validate")

    def rows(examples: list[Any], right: bool) -> list[dict[str, Any]]:
        pairs = [(one["messages"][-2]["content"], one["messages"][-1]["content"]) for one in examples]
        return [
            {
                "asked": asked,
                "expected": expected,
                "answer": expected if right else "",
                "prompt_tokens": 10,
                "completion_tokens": 2,
            }
            for asked, expected in pairs
        ]

    for path, right in ((BASE_ANSWERS, False), (TUNED_ANSWERS, True)):
        write_jsonl(folder / path, rows(examples, right))
    for path in (BASE_ALSO_ANSWERS, TUNED_ALSO_ANSWERS):
        also = [{"set": name, **row} for name, one in questions["also"].items() for row in rows(one["examples"], True)]
        write_jsonl(folder / path, also)
    write_jsonl(folder / FEW_SHOT_ANSWERS, rows(examples, False))
    write_jsonl(folder / COMPARED_ANSWERS, [{"model": "compared.base", **row} for row in rows(examples, True)])
    write_jsonl(folder / GRADER_REPLIES, [])
    write_jsonl(folder / JUDGE_REPLIES, [])
    write_json(folder / BASE_LATENCY, {"base": {"median_ms": 5.0, "p95_ms": 9.0}, "few_shot": {}})
    write_json(folder / TUNED_LATENCY, {"tuned": {"median_ms": 5.0, "p95_ms": 9.0}, "compared.base": {}})
    answered_by = {"model": record()["model"], "fingerprint": record()["fingerprint"]}
    write_json(folder / ANSWERED_BY, answered_by | {"test_rows": sha256_of(folder / PREPARED / "test.jsonl")})
    write_json(folder / MODEL, record())
    write_json(folder / FILES, {"train": {"id": "file-1", "sha256": "0" * 64}})
    write_csv(folder / CURVES, ["step", "train_loss", "valid_loss"], [{"step": n, "train_loss": 1 / n} for n in (1, 2)])
    write_csv(folder / LEDGER, COLUMNS, [{"job": "ftjob-2", "billed_usd": "0.0"}])
