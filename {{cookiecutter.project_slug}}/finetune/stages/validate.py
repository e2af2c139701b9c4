"""validate: every line against the rules of the API, and what an epoch will cost, before anything is sent."""

from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

from finetune.data.checks import Checked, Finding, check_against, check_file
from finetune.data.cost import dollars
from finetune.data.tokens import counter
from finetune.errors import FinetuneError
from finetune.params import Params
from finetune.provider.catalogue import Base, look_up
from finetune.record import write_csv, write_json
from finetune.stages.prepare import PREPARED

REPORT = Path("reports/validation.json")
TOKENS = Path("reports/tokens.csv")
SHOWN = 20
BINS = 20


def run(params: Params) -> dict[str, Any]:
    """Write the report and the histogram of lengths. Raises FinetuneError naming every mistake's file and line.

    Warnings are counted in the report by their codes; `finetune check` spells them out.
    """
    base = look_up(params.train.base, params.provider.name)
    count = counter(base.encoding)
    checked: dict[str, Checked] = {}
    for split in ("train", "valid", "test"):
        path = PREPARED / f"{split}.jsonl"
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Make it with: dvc repro prepare")
        if split != "valid" or params.data.split.valid > 0:
            training = split == "train"
            checked[split] = check_file(path, params.train.method, count, base.context, training=training)
    for one, other in combinations(checked.values(), 2):
        check_against(one, other)
    findings = [finding for split in checked.values() for finding in split.findings]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise refusal(errors)
    tokens = {split: found.tokens for split, found in checked.items()}
    report = report_of(base, tokens) | {"warnings": dict(Counter(finding.code for finding in findings))}
    write_csv(TOKENS, ["split", "tokens", "examples"], histogram(tokens))
    write_json(REPORT, report)
    return report


def report_of(base: Base, tokens: dict[str, list[int]]) -> dict[str, Any]:
    """Counts, tokens and dollars of one epoch; a price that is not known is the text "unknown"."""
    per_epoch = sum(tokens["train"])
    return {
        "examples": {split: len(lengths) for split, lengths in tokens.items()},
        "errors": 0,
        "longest_example_tokens": max(max(lengths, default=0) for lengths in tokens.values()),
        "train_tokens_per_epoch": per_epoch,
        "train_usd_per_epoch": dollars(per_epoch, base.training),
        "tokens_exact": base.tokens_exact,
    }


def histogram(tokens: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Examples by length in tokens: rows of split, upper edge of the bin and count."""
    longest = max(max(lengths, default=1) for lengths in tokens.values())
    width = -(-longest // BINS)
    rows = []
    for split, lengths in tokens.items():
        bins = Counter(-(-length // width) * width for length in lengths)
        rows += [{"split": split, "tokens": edge, "examples": bins[edge]} for edge in sorted(bins)]
    return rows


def refusal(errors: list[Finding]) -> FinetuneError:
    """All mistakes as one error: each with its place and its remedy, the first twenty spelt out."""
    shown = [f"{f.file}{f', line {f.line}' if f.line else ''}: {f.message} [{f.code}]. {f.fix}" for f in errors[:SHOWN]]
    if len(errors) > SHOWN:
        shown.append(f"... and {len(errors) - SHOWN} more: finetune check {' '.join(sorted({f.file for f in errors}))}")
    count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    return FinetuneError("\n".join([f"{count} in the prepared data; nothing was sent.", *shown]))
