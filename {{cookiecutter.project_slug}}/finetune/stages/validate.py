"""validate: every line against the rules of the API, and what an epoch will cost, before anything is sent."""

from collections import Counter
from pathlib import Path
from typing import Any

from finetune.data.checks import Finding, check_lines, check_size, read_lines
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
    """Write the report and the histogram of lengths. Raises FinetuneError naming every mistake's file and line."""
    base = look_up(params.train.base, params.provider.name)
    count = counter(base.encoding)
    findings: list[tuple[Path, Finding]] = []
    tokens: dict[str, list[int]] = {}
    for split in ("train", "valid", "test"):
        path = PREPARED / f"{split}.jsonl"
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Make it with: dvc repro prepare")
        lines = read_lines(path)
        found, tokens[split] = check_lines(lines, count, base.context)
        if split != "valid" or params.data.split.valid > 0:
            found += check_size(split, len(lines))
        findings += [(path, finding) for finding in found]
    if findings:
        raise refusal(findings)
    report = report_of(base, tokens)
    write_csv(TOKENS, ["split", "tokens", "examples"], histogram(tokens))
    write_json(REPORT, report)
    return report


def report_of(base: Base, tokens: dict[str, list[int]]) -> dict[str, Any]:
    """Counts, tokens and dollars of one epoch; a price that is not known is the text "unknown"."""
    per_epoch = sum(tokens["train"])
    usd: float | str = "unknown"
    if base.training_usd is not None:
        usd = round(per_epoch * base.training_usd / 1_000_000, 4)
    return {
        "examples": {split: len(lengths) for split, lengths in tokens.items()},
        "errors": 0,
        "longest_example_tokens": max(max(lengths, default=0) for lengths in tokens.values()),
        "train_tokens_per_epoch": per_epoch,
        "train_usd_per_epoch": usd,
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


def refusal(findings: list[tuple[Path, Finding]]) -> FinetuneError:
    """All mistakes as one error: each with its place and its remedy, the first twenty spelt out."""

    def line(path: Path, finding: Finding) -> str:
        place = f"{path}, line {finding.line}" if finding.line else str(path)
        return f"{place}: {finding.message} [{finding.code}]. {finding.fix}"

    shown = [line(*found) for found in findings[:SHOWN]]
    if len(findings) > SHOWN:
        shown.append(f"... and {len(findings) - SHOWN} more.")
    count = "1 mistake" if len(findings) == 1 else f"{len(findings)} mistakes"
    return FinetuneError("\n".join([f"{count} in the prepared data; nothing was sent.", *shown]))
