"""How much the score differs between trainings with different seeds: what the intervals over test rows do not show."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.core.callbacks import Say
from finetune.core.class_labels import labels_of
from finetune.core.evaluated_models import floor_title
from finetune.core.params import Params
from finetune.core.read_records import read_variants
from finetune.core.records.prepared import PrepareReport
from finetune.core.records.variants import Trainings, VariantRecord
from finetune.core.sections.evaluate import ANSWERING
from finetune.scoring.answer_schema import load_schema
from finetune.scoring.mean_interval import LEVEL, rounded

LARGEST_SD = 0.5  # of scores from 0 to 1


def scoring_settings(params: Params, prepared: PrepareReport, test_rows: str) -> str:
    """Return the SHA-256 of all that decides answers and scores beside the model; `test_rows` is that of the rows."""
    settings, provider = params.evaluate, params.provider
    decides = {
        "choose": params.train.choose,
        "test_rows": test_rows,
        "server": [provider.name, provider.base_url],
        "task": settings.task,
        "metric": settings.metric,
        **{key: getattr(settings, key) for key in ANSWERING},
        "beta": settings.beta,
        "schema": load_schema(settings.answer_schema) if settings.answer_schema else None,
        "labels": sorted(labels_of(params.data, prepared)),
        "codes": prepared.get("codes"),
        "abstain": prepared.get("abstain"),
        "completion": prepared.get("completion"),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def choice_of(params: Params, settings: str) -> str:
    """Return what chooses the checkpoint of a training: train.choose, and where answers are scored for it, how."""
    return f"{params.train.choose} {settings}" if params.train.choose == "best_metric" else params.train.choose


def trainings_of(params: Params, prepared: PrepareReport, metrics: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """Return the spread between the trainings of `finetune repeat` as part of an evaluation; {} without them."""
    records, evaluated = read_variants(), metrics.get("evaluated")  # earlier versions did not write it
    own = records.get(evaluated["fingerprint"]) if evaluated else None
    if evaluated is None or own is None:
        return {}
    settings = scoring_settings(params, prepared, evaluated["test_rows"])
    repeats = [one for one in records.values() if one["recipe"] == own["recipe"] and one["share"] == 1 and one != own]
    scored = [one for one in repeats if has_scores(one, settings, metrics["metric"])]
    if left_out := sorted(one["seed"] for one in repeats if one not in scored):
        seeds = ",".join(map(str, left_out))
        say(
            f"Not compared: trainings of models/variants with the seeds {seeds}, whose answers are missing, or of other"
            f" test rows or settings. Complete them with: finetune repeat --seeds {seeds}"
        )
    if not scored:
        return {}
    return {"trainings": spread(sorted(scored, key=lambda one: one["seed"]), own["seed"], metrics)}


def has_scores(record: VariantRecord, settings: str, metric: str) -> bool:
    """Return whether a variant has scores of this metric that were made with these settings."""
    scores = record.get("scores")
    return scores is not None and (scores["settings"], scores["metric"]) == (settings, metric)


def spread(others: Sequence[VariantRecord], seed: int, metrics: Mapping[str, Any]) -> Trainings:
    """Return the spread between the evaluated training and others, whose records have scores.

    The interval of the standard deviation is that of normal values, from the chi-squared distribution, within what
    scores from 0 to 1 can have.
    """
    import numpy as np
    from scipy.special import chdtri

    metric = metrics["metric"]
    own = float(metrics["tuned"][metric])
    scores = np.array([own, *(one["scores"]["score"] for one in others)])
    freedom, sd = len(scores) - 1, float(scores.std(ddof=1))
    shares = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    ends = [min(LARGEST_SD, sd * math.sqrt(freedom / float(chdtri(freedom, share)))) for share in shares]
    found: Trainings = {
        "n": len(scores),
        "seeds": sorted([seed, *(one["seed"] for one in others)]),
        "mean": rounded(scores.mean()),
        "least": rounded(scores.min()),
        "most": rounded(scores.max()),
        "sd": rounded(sd),
        "sd_low": rounded(ends[0]),
        "sd_high": rounded(ends[1]) if rounded(sd) else None,
        "rank": 1 + int((scores > own).sum()),
        "share_of_lift": share_of(sd, metrics["lift"][metric]),
        "verdict": "",
    }
    if metrics.get("rival", {}).get("name", "base") != "base":
        rival = own - metrics["rival"][metric]
        found["share_of_rival_lift"] = share_of(sd, metrics["rival"][metric])
        found["above_rival"] = int((scores > rival + 1e-9).sum())
    found["verdict"] = words_of(found, metric, str(metrics.get("rival", {}).get("name", "")))
    return found


def share_of(sd: float, lift: float) -> float | None:
    """Return a standard deviation as a share of a lift; None for a lift of 0."""
    return rounded(sd / abs(lift)) if lift else None


def words_of(found: Trainings, metric: str, rival: str) -> str:
    """Describe the spread in words that claim no more than so few trainings show."""
    seeds = ", ".join(map(str, found["seeds"]))
    words = f"{found['n']} trainings with the seeds {seeds}: {metric} {found['mean']:.3f} on average"
    if found["sd_high"] is None:
        return f"{words}, the same in each"
    words += (
        f", {found['least']:.3f} to {found['most']:.3f}, standard deviation {found['sd']:.3f}"
        f" (95 % interval {found['sd_low']:.3f} to {found['sd_high']:.3f})"
    )
    if found["share_of_lift"] is not None:
        words += f", which is {found['share_of_lift']:.0%} of the lift over base"
    if "above_rival" in found:
        name = floor_title(rival)
        part = found.get("share_of_rival_lift")
        words += f" and {part:.0%} of the difference to {name}" if part is not None else ""
        words += f"; {found['above_rival']} of {found['n']} trainings score above {name}"
    if found["rank"] == 1 and found["mean"] < found["most"]:
        words += "; the evaluated model is the best of them, so expect less of another training"
    return words
