"""Write the files of a finished run that the report is made from, with invented figures that agree."""

import csv
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.scoring.classify import classification
from finetune.scoring.mean_interval import interval
from finetune.scoring.paired_comparison import paired_difference, verdict

TEAMS = ["delivery", "billing", "technical", "returns", "account", "sales", "privacy", "careers"]
ASKED = [
    "Hello, my parcel was meant to come on {}, and I still have not seen a van. Can you tell me where it is?",
    "I was charged twice for order {}. Please send one of the two payments back.",
    "Since the update the app closes itself as soon as I open page {}.",
    "The lamp of order {} came in the wrong colour.\nHow do I send it back?",
    "注文番号{}の件ですが、パスワードを変更できません。",
    "We are {} people and would like to know what the yearly plan costs.",
    "Please delete everything you know about me; my customer number is {}.",
    "Is position {} in your warehouse still open?",
]
# The share of right answers of each model, by its name in tables. The last one is the model of a tag called `base`.
MODELS = {"base": 0.46, "few_shot": 0.71, "checkpoints.76": 0.83, "tuned": 0.89, "compared.base": 0.8}

Answer = Callable[[random.Random, str], str]


def write_finished(folder: Path, n: int = 169, teams: Sequence[str] = TEAMS) -> None:
    """Fill a folder with the files of a classification of `n` test rows."""
    draw = random.Random(7)
    truth = [teams[min(int(draw.expovariate(1) * len(teams) / 3), len(teams) - 1)] for _ in range(n)]
    answers = {
        name: [team if draw.random() < share else draw.choice([*teams, "(none)"]) for team in truth]
        for name, share in MODELS.items()
    }
    rights = {name: [float(a == b) for a, b in zip(truth, found, strict=True)] for name, found in answers.items()}
    evaluation: dict[str, Any] = {"task": "classify", "metric": "accuracy", "n": n, "gates_met": 1, "gates_failed": []}
    evaluation["evaluated"] = {key: record()[key] for key in ("model", "fingerprint")} | {"test_rows": "0" * 64}
    grades: dict[str, Any] = {}
    classes, pairs, groups, bins, differences = [], [], [], [], []
    for name, found in answers.items():
        metrics = classification(truth, found, teams)
        low, high = interval(rights[name])
        classes += [{"model": name, **row} for row in metrics["classes"]]
        usage = {"prompt_tokens": 412.0 if name == "few_shot" else 58.2, "completion_tokens": 2.1, "failed": 0}
        usage |= {"usd_per_1000": 0.0487 if name == "tuned" else 0.0256} | ({"failed": 2} if name == "base" else {})
        ends = {"accuracy_low": low, "accuracy_high": high}
        enter(evaluation, name, {**metrics, **ends, "log_loss": 0.41, "auroc": 0.97, **usage})
        enter(grades, name, {"score": MODELS[name] + 0.05, "low": MODELS[name], "high": MODELS[name] + 0.1})
        if name != "tuned":
            by = paired_difference(rights[name], rights["tuned"])
            words = verdict("accuracy", by, n)
            ends = {"accuracy": by["lift"], "accuracy_low": by["low"], "accuracy_high": by["high"]}
            rest = {key: by[key] for key in ("p_value", "test", "wins", "losses", "fresh_rows")}
            enter_lift(evaluation, name, {**ends, **rest, "verdict": words})
            pair = {"model": "tuned", "against": name, "n": n, "difference": by["lift"], "verdict": words}
            pair |= {"p_holm": by["p_value"]}
            changes = {"difference": by["lift"], "difference_low": by["low"], "difference_high": by["high"]}
            differences.append({"metric": "macro_f1", "model": name, "p_value": by["p_value"], **changes})
            pairs.append(pair | {key: by[key] for key in ("low", "high", "p_value", "test")})
        for group, part in (("en", rights[name][: n // 2]), ("ja", rights[name][n // 2 :])):
            low, high = interval(part)
            score = sum(part) / len(part)
            groups.append({"group": group, "model": name, "n": len(part), "score": score, "low": low, "high": high})
        for tenth in range(3, 10):
            sure = tenth / 10 + 0.05
            right = sure - (0.22 if name == "base" else 0.04) + 0.05 * math.sin(tenth * 2)
            bins.append({"model": name, "confidence": sure, "accuracy": round(right, 3), "rows": 4 + tenth**2})
    grades["lift"] = {"score": 0.43, "low": 0.36, "high": 0.5, "p_value": 0.0001}
    evaluation["graders"] = {"polite": grades}
    evaluation["saved_prompt_tokens"] = 353.8
    evaluation["judge"] = {"wins": 61, "losses": 24, "ties": 40, "flipped": 11, "p_value": 0.00007, "n": 125}
    evaluation["judge"]["verdict"] = "the judge prefers the tuned model's answers"
    evaluation["also"] = {"general": regression(0.61, 0.6, -0.05, 0.03, 1)}
    evaluation["also"]["arithmetic"] = regression(0.44, 0.31, -0.2, -0.06, 0)
    write_json(folder / "reports/evaluation.json", evaluation)
    latency = {"base": 212, "few_shot": 391, "tuned": 187, "compared.base": 205}
    write_json(folder / "reports/latency.json", {name: times(median) for name, median in latency.items()})
    write_json(folder / "reports/prepare.json", {"rows": 880, "train": 606, "valid": 81, "test": n})
    write_json(folder / "reports/validation.json", {"break_even_calls": 41_200})
    write_json(folder / "models/files.json", {"train": {"id": "file-1", "sha256": "11c58745eb0e44e4" * 4}})
    write_json(folder / "models/model.json", record())
    write_table(folder / "reports/classes.csv", classes)
    write_table(folder / "reports/pairs.csv", pairs)
    write_table(folder / "reports/metrics.csv", differences)
    write_table(folder / "reports/groups.csv", groups)
    write_table(folder / "reports/calibration.csv", bins)
    write_table(folder / "reports/training.csv", curves(draw))
    write_table(folder / "reports/ledger.csv", [{"job": f"ftjob-{i}", "billed_usd": 0.4 + i / 10} for i in range(3)])
    for name in ("base", "tuned"):
        table = [{"actual": a, "predicted": b} for a, b in zip(truth, answers[name], strict=True)]
        write_table(folder / f"reports/confusion_{name}.csv", table)
    write_table(folder / "reports/rows.csv", rows(draw, truth, answers))


def enter(values: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    """Put a model's value where evaluation.json has it: `checkpoints.76` under `76` of `checkpoints`."""
    group, dot, key = name.partition(".")
    place = values.setdefault(group, {}) if dot else values
    place[key or group] = value


def enter_lift(evaluation: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    """Put the difference of tuned to a model where evaluation.json has it."""
    group, dot, key = name.partition(".")
    if dot:
        evaluation[group][key]["lift"] = value
    else:
        evaluation["lift" if name == "base" else f"lift_over_{name}"] = value


def regression(base: float, tuned: float, low: float, high: float, kept: int) -> dict[str, Any]:
    words = f"{'no worse' if kept else 'worse'} by more than 0.05"
    ends = {"base": base, "tuned": tuned, "lift": tuned - base, "low": low, "high": high, "margin": 0.05}
    return {"task": "generate", "metric": "chrf", "n": 80, "kept": kept, "verdict": words, **ends}


def times(median: float) -> dict[str, float]:
    return {"median_ms": median, "p95_ms": median * 2.3}


def record() -> dict[str, Any]:
    return {
        "provider": "openai",
        "base": "gpt-4.1-mini-2025-04-14",
        "lineage": [],
        "method": "supervised",
        "model": "ft:gpt-4.1-mini-2025-04-14:acme:desk:Bx9f2aQ",
        "chosen": {"by": "best_valid_loss", "step": 152, "why": "the least validation loss"},
        "job": "ftjob-1",
        "fingerprint": "5c4db7c5485d5760" * 4,
        "seed": 42,
        "suffix": "desk",
        "hyperparameters": {"batch_size": 8, "learning_rate_multiplier": 2.0, "n_epochs": 3},
        "trained_tokens": 110_163,
        "usd": 0.5,
        "verdict_words": "The validation loss was least at step 152 and rose after it: try n_epochs 2.",
    }


def curves(draw: random.Random) -> list[dict[str, Any]]:
    found = []
    for step in range(1, 229):
        loss = 0.18 + 3.4 * math.exp(-step / 14) + 0.12 * draw.random()
        row: dict[str, Any] = {
            "step": step,
            "train_loss": loss,
            "train_accuracy": 1 - loss / 5,
            "valid_loss": "",
            "valid_accuracy": "",
        }
        if step % 19 == 0:
            row["valid_loss"] = 0.26 + 2.6 * math.exp(-step / 16) + max(0, step - 152) / 1200
            row["valid_accuracy"] = 0.95 - row["valid_loss"] / 6
        found.append(row)
    return found


def rows(draw: random.Random, truth: Sequence[str], answers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {"lost": [], "won": [], "wrong": []}
    for kind in found:
        for i, (expected, base, tuned) in enumerate(zip(truth, answers["base"], answers["tuned"], strict=True)):
            scores = {"base_score": float(base == expected), "tuned_score": float(tuned == expected)}
            before, after = scores.values()
            if {"lost": before > after, "won": after > before, "wrong": after < 1}[kind]:
                asked = ASKED[i % len(ASKED)].format(1000 + i)
                row = {"kind": kind, "asked": asked, "expected": expected, "base": base, "tuned": tuned, **scores}
                found[kind].append({**row, "confidence": round(0.4 + 0.59 * draw.random(), 4)})
    found["wrong"].sort(key=lambda row: -float(row["confidence"]))
    return [row for some in found.values() for row in some[:50]]


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_table(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
