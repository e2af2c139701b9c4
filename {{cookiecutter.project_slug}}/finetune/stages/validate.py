"""validate: every line against the rules of the API, and what it will cost, before anything is sent."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np

from finetune.core.callbacks import Progress, Say, say_nothing
from finetune.core.disk import read_json, write_csv, write_json, write_text
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import PREPARED, PREPARED_REPORT, VALIDATION_REPORT
from finetune.data.checks.across_files import check_languages, check_leaks, check_missing_classes
from finetune.data.checks.check_file import check_file
from finetune.data.checks.check_lines import example_at
from finetune.data.checks.findings import Finding
from finetune.data.checks.whole_file import CheckedFile, check_labels
from finetune.pricing.catalogue import Base, look_up
from finetune.pricing.cost import auto_epochs, break_even, dollars, estimate, of_calls
from finetune.report.data_page import make_data_page

TOKENS = Path("reports/tokens.csv")
BALANCE = Path("reports/labels.csv")
PAGE = Path("reports/data.html")
SHOWN = 20
BINS = 20
REVIEWED, OUTLIERS = 20, 8  # examples on the page
FEW_SHOT = 10  # examples that a prompt without fine-tuning would carry
LONG_WORK = 64 * 1024**2  # bytes from which progress is shown


def run(params: Params, progress: Progress | None = None, say: Say = say_nothing) -> dict[str, Any]:
    """Write the report, the page and the tables of lengths and classes.

    Raises FinetuneError naming every mistake's file and line. Warnings are counted in the report by their codes;
    `finetune check` spells them out.
    """
    base = look_up(params.train.base, params.provider.name)
    checked = check_splits(params, base, progress)
    findings = [finding for split in checked.values() for finding in split.findings]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise refusal(errors)
    report = report_of(base, {split: found.tokens.tolist() for split, found in checked.items()}, params)
    report["warnings"] = dict(Counter(finding.code for finding in findings))
    lengths, balance = histogram(checked), balance_of(checked)
    write_csv(TOKENS, ["split", "tokens", "examples"], lengths)
    write_csv(BALANCE, ["class", "split", "examples"], balance)
    write_text(PAGE, make_data_page(report, balance, lengths, to_review(checked)))
    write_json(VALIDATION_REPORT, report)
    return report


def check_splits(params: Params, base: Base, progress: Progress | None = None) -> dict[str, CheckedFile]:
    """Each split on its own, then beside the others."""
    codes = read_json(PREPARED_REPORT, "prepare").get("codes", {})
    checked: dict[str, CheckedFile] = {}
    for split in ("train", "valid", "test"):
        path = PREPARED / f"{split}.jsonl"
        if not path.is_file():
            raise FinetuneError(f"{path} is missing.", "Make it with: dvc repro prepare")
        if split == "valid" and path.stat().st_size == 0:
            continue
        checked[split] = check_file(
            path,
            params.train.method,
            base.encoding,
            base.context,
            training=split == "train",
            progress=progress if path.stat().st_size > LONG_WORK else None,
        )
        check_labels(checked[split], list(codes.values()) or params.data.labels)
    for one, other in combinations(checked.values(), 2):
        check_leaks(one, other)
    for one, other in permutations(checked.values(), 2):
        check_missing_classes(one, other)
        check_languages(one, other)
    return checked


def report_of(base: Base, tokens: dict[str, list[int]], params: Params) -> dict[str, Any]:
    """Counts, tokens, and dollars to train and to evaluate; what is not known is the text "unknown", never 0.

    `train` is for the epochs that `auto` would take, whatever train.n_epochs says: so the report does not change with
    it. Break-even is in calls, against the base model with ten examples in its prompt.
    """
    per_epoch, n_epochs = sum(tokens["train"]), auto_epochs(len(tokens["train"]))
    train = estimate(tokens["train"], n_epochs, base.context, base.training, base.seconds)
    asked, answered = sum(tokens["test"]), params.evaluate.max_tokens * len(tokens["test"])
    own, tuned = (base.base_input, base.base_output), (base.input, base.output)
    usual = per_epoch / max(1, len(tokens["train"]))
    million = 1_000_000  # calls, so that their price is not rounded away
    call = of_calls(usual * million, params.evaluate.max_tokens * million, tuned)
    few_shot = of_calls(usual * (1 + FEW_SHOT) * million, params.evaluate.max_tokens * million, own)
    return {
        "examples": {split: len(lengths) for split, lengths in tokens.items()},
        "errors": 0,
        "longest_example_tokens": max(max(lengths, default=0) for lengths in tokens.values()),
        "train_tokens_per_epoch": per_epoch,
        "train_usd_per_epoch": dollars(per_epoch, base.training),
        "tokens_exact": base.tokens_exact,
        "auto": {key: train[key] for key in ("n_epochs", "billed_tokens", "train_usd", "seconds")},
        "evaluate_usd_at_most": {"base": of_calls(asked, answered, own), "tuned": of_calls(asked, answered, tuned)},
        "break_even_calls": break_even(train["train_usd"], *(in_one(price, million) for price in (few_shot, call))),
    }


def in_one(price: float | str, calls: int) -> float | str:
    return price if isinstance(price, str) else price / calls


def histogram(checked: dict[str, CheckedFile]) -> list[dict[str, Any]]:
    """Examples by length in tokens: rows of split, upper edge of the bin and count."""
    longest = max(int(found.tokens.max(initial=1)) for found in checked.values())
    width = -(-longest // BINS)
    rows = []
    for split, found in checked.items():
        edges, counts = np.unique(-(-found.tokens // width) * width, return_counts=True)
        bins = zip(edges.tolist(), counts.tolist(), strict=True)
        rows += [{"split": split, "tokens": edge, "examples": count} for edge, count in bins]
    return rows


def balance_of(checked: dict[str, CheckedFile]) -> list[dict[str, Any]]:
    """Examples by class and split, where the answers are classes."""
    if not checked["train"].classes:
        return []
    return [
        {"class": name, "split": split, "examples": count}
        for split, found in checked.items()
        for name, count in sorted((found.answers or Counter()).items(), key=lambda item: (-item[1], item[0]))
    ]


def to_review(checked: dict[str, CheckedFile]) -> dict[str, list[tuple[str, int | None, dict[str, Any]]]]:
    """What a person should read of the training data before it is paid for: some at random, and the outliers."""
    train = checked["train"]
    order = np.argsort(train.rows["tokens"], kind="stable").tolist()
    chosen = random.Random(0).sample(range(len(order)), min(REVIEWED, len(order)))
    return {
        title: [
            (str(train.rows["line"][n]), int(train.rows["tokens"][n]), example_at(train.file, train.rows[n]))
            for n in numbers
        ]
        for title, numbers in (
            (f"{len(chosen)} training examples at random", sorted(chosen)),
            ("The longest", order[::-1][:OUTLIERS]),
            ("The shortest", order[:OUTLIERS]),
        )
    }


def refusal(errors: Sequence[Finding]) -> FinetuneError:
    """All mistakes as one error: each with its place and its remedy, the first twenty spelt out."""
    shown = [f"{f.file}{f', line {f.line}' if f.line else ''}: {f.message} [{f.code}]. {f.fix}" for f in errors[:SHOWN]]
    if len(errors) > SHOWN:
        shown.append(f"... and {len(errors) - SHOWN} more: finetune check {' '.join(sorted({f.file for f in errors}))}")
    count = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    return FinetuneError("\n".join([f"{count} in the prepared data; nothing was sent.", *shown]))
