"""What the page and the short report both tell, in words and figures: read from files, computed from nothing else."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

UNKNOWN = ("unknown", None, "")
USAGE = {"prompt_tokens": "prompt tokens", "completion_tokens": "answer tokens", "usd_per_1000": "$ per 1,000 calls"}
TIMES = {"median_ms": "median time", "p95_ms": "95th percentile"}
NAMES = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf_corpus": "chrF of all",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "valid_json": "valid JSON",
}
LESS_IS_BETTER = ("log_loss", "calibration_error", "outside")

Row = Mapping[str, str]


class Results(NamedTuple):
    """What the other stages left; a file that is missing is empty."""

    record: dict[str, Any]
    evaluation: dict[str, Any]
    files: dict[str, Any]
    prepared: dict[str, Any]
    validation: dict[str, Any]
    latency: dict[str, Any]
    tables: dict[str, list[dict[str, str]]]  # by the name of the file
    commit: str  # that the model was trained on top of
    former: dict[str, str]  # the lineage of the fine-tune before this one
    former_commit: str


def models(evaluation: Mapping[str, Any]) -> list[str]:
    """Those that answered: base first, tuned last."""
    low = f"{evaluation['metric']}_low"
    found = [name for name, value in evaluation.items() if isinstance(value, Mapping) and low in value]
    others = [name for name in found if not name.startswith("lift") and name not in ("base", "few_shot", "tuned")]
    return [name for name in ("base", "few_shot") if name in found] + sorted(others, key=natural) + ["tuned"]


def natural(name: str) -> tuple[str, int]:
    """So that checkpoint_9 comes before checkpoint_10."""
    digits = name[len(name.rstrip("0123456789")) :]
    return name.removesuffix(digits), int(digits or 0)


def metrics(evaluation: Mapping[str, Any]) -> list[str]:
    """The names of all metrics, the first first; without intervals and what belongs to the cost."""
    keys = dict.fromkeys(key for name in models(evaluation) for key in evaluation[name])
    shown = [
        key
        for key in keys
        if not key.endswith(("_low", "_high"))
        and key not in USAGE
        and any(isinstance(evaluation[name].get(key), (int, float)) for name in models(evaluation))
    ]
    if not any(evaluation[name].get("failed") for name in models(evaluation)):
        shown = [key for key in shown if key != "failed"]
    return sorted(shown, key=lambda key: (key != evaluation["metric"], key == "failed"))


def called(name: str) -> str:
    """A metric's or a model's name as people write it."""
    if name == "failed":
        return "rows without an answer"
    words = NAMES.get(name) or name.replace("_f1", " F1").replace("_", " ")
    return f"{words} (less is better)" if name in LESS_IS_BETTER else words


def figure(value: Any) -> str:
    """A number as tables show it; a dash where there is none."""
    if isinstance(value, str):
        return value or "–"
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def money(value: Any) -> str:
    """Dollars, to the cent or, below one, to the digits that tell."""
    if value in UNKNOWN:
        return "unknown"
    usd = float(value)
    return f"${usd:,.2f}" if usd >= 1 or usd == round(usd, 2) else f"${usd:.3g}"


def percent(value: float) -> str:
    return f"{100 * value:.{0 if value < 0.995 or value == 1 else 1}f} %"


def headline(evaluation: Mapping[str, Any]) -> tuple[str, str, str]:
    """Whether tuning was worth it: better, worse or even; in a clause; and how sure that is."""
    verdict = str(evaluation["lift"]["verdict"])
    clause, _, sure = verdict.partition(" (")
    word = clause.split(" ")[0]
    if word not in ("better", "worse"):
        word, clause = "even", "no difference shown"
    name = str(evaluation["metric"])
    return word, clause.replace(name, NAMES.get(name, name)), sure.replace(")", "", 1).strip()


def scores(evaluation: Mapping[str, Any]) -> str:
    """The first metric of both, in a sentence."""
    name = evaluation["metric"]
    tuned, base = (figure(evaluation[model][name]) for model in ("tuned", "base"))
    return f"{NAMES.get(name) or called(name).capitalize()} {tuned} against {base}"


def usage(results: Results) -> list[list[str]]:
    """What a call takes: a head and a row for each model, with the columns that any of them has."""
    names = models(results.evaluation)
    columns = {key: called for key, called in USAGE.items() if any(key in results.evaluation[name] for name in names)}
    times = {key: called for key, called in TIMES.items() if any(key in one for one in results.latency.values())}
    if not columns and not times:
        return []
    rows = []
    for name in names:
        found, speed = results.evaluation[name], results.latency.get(name, {})
        cells = [money(found.get(key)) if key == "usd_per_1000" else whole(found.get(key)) for key in columns]
        rows.append([called(name), *cells, *(f"{speed[key]:,.0f} ms" if key in speed else "–" for key in times)])
    return [["model", *columns.values(), *times.values()], *rows]


def whole(value: Any) -> str:
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")


def costs(results: Results) -> dict[str, str]:
    """What the training took, and what all jobs up to this one did."""
    record, ledger = results.record, results.tables["ledger"]
    told = {"training": money(record.get("usd"))}
    if record.get("trained_tokens"):
        told["billed tokens"] = f"{record['trained_tokens']:,}"
    jobs = [row["job"] for row in ledger]
    if record.get("job") in jobs:
        # Only those up to this one, so that the same fine-tune always has the same report.
        bills = [row["billed_usd"] for row in ledger[: jobs.index(record["job"]) + 1]]
        known = [float(bill) for bill in bills if bill not in UNKNOWN]
        unknown = f", and {len(bills) - len(known)} of unknown price" if len(known) < len(bills) else ""
        told[f"all jobs so far ({len(bills)})"] = f"{money(sum(known))}{unknown}" if known else "unknown"
    saved = results.evaluation.get("saved_prompt_tokens")
    if saved is not None:
        told["prompt tokens saved in a call"] = whole(saved)
    calls = results.validation.get("break_even_calls")
    if isinstance(calls, int):
        told["paid for after"] = f"{calls:,} calls, against ten examples in the base model's prompt"
    return told


def lineage(record: Mapping[str, Any], files: Mapping[str, Any], prepared: Mapping[str, Any]) -> dict[str, str]:
    """Where a model comes from, down to its data."""
    chosen = record.get("chosen", {})
    rows = {split: prepared[split] for split in ("train", "valid", "test") if isinstance(prepared.get(split), int)}
    told = {
        "model": record["model"],
        "base": record["base"],
        "trained on from": ", ".join(record.get("lineage", [])) or "the base itself",
        "provider": record.get("provider"),
        "method": record.get("method"),
        "job": record["job"],
        "checkpoint": f"step {chosen['step']}: {chosen['why']}" if chosen.get("step") else chosen.get("why"),
        "hyperparameters": ", ".join(f"{name} {value}" for name, value in sorted(record["hyperparameters"].items())),
        "seed": record["seed"],
        "suffix": record.get("suffix"),
        "examples": ", ".join(f"{count:,} {split}" for split, count in rows.items()),
        "training data, SHA-256": files.get("train", {}).get("sha256"),
        "fingerprint": record["fingerprint"],
    }
    return {name: str(value) for name, value in told.items() if value not in (None, "")}


def pair_in_words(row: Row) -> str:
    """The verdict on a pair of models, without the figures that stand beside it."""
    clause, bracket, rest = row["verdict"].partition(" (")
    return clause + rest.partition(")")[2] if bracket else clause


def number(cell: str | None) -> float | None:
    """The figure of a cell; None where it is empty or no number."""
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def by_model(rows: Sequence[Row], key: str) -> dict[str, dict[str, Row]]:
    """The rows of a table, by the value of `key` and then by model."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row[key], {})[row["model"]] = row
    return found
