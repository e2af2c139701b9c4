"""Compare the answers of an exported format with those of the model that was measured."""

from collections.abc import Sequence
from statistics import fmean

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records.answers import Prediction
from finetune.core.records.exports import ExportScores
from finetune.core.records.prepared import PrepareReport
from finetune.scoring.both_answered import is_answered
from finetune.scoring.evaluation import difference, interval_of
from finetune.scoring.paired_comparison import verdict
from finetune.scoring.prediction_scores import score_predictions
from finetune.scoring.tasks import Scored

FAR = 0.2  # nats; rounding in bfloat16 changes the log-probability of a token by a tenth of it
FOUR_BITS = "gguf-q4_k_m"
FEW = 0.5  # share of rows
PART = "\ufffd"  # stands for a part of a character


def scored(params: Params, prepared: PrepareReport, rows: Sequence[Prediction], groups: Sequence[int]) -> Scored:
    """Return the scores of answers; without log-probabilities, of which formats give different numbers."""
    plain: list[Prediction] = [row.copy() for row in rows]
    for row in plain:
        row.pop("logprobs", None)
    return score_predictions(params, prepared, plain, groups)


def compare(
    params: Params,
    prepared: PrepareReport,
    measured: Sequence[Prediction],
    exported: Sequence[Prediction],
    groups: Sequence[int],
    size: int,
) -> ExportScores:
    """Return how the answers of a format of this size in bytes compare with the measured ones."""
    before, after = (scored(params, prepared, rows, groups) for rows in (measured, exported))
    found = difference(before, after, groups)
    low, high = interval_of(after, groups)
    same = [a["answer"] == b["answer"] for a, b in zip(measured, exported, strict=True)]
    margin = params.export.margin
    kept = found["low"] >= -margin
    words = f"{sum(same)} of {len(same)} answers are equal; {verdict(after.metric, found, len(same))}"
    scores: ExportScores = {
        "agreement": round(fmean(same), 4),
        "metric": after.metric,
        "score": after.metrics[after.metric],
        "low": low,
        "high": high,
        "difference": found["lift"],
        "difference_low": found["low"],
        "difference_high": found["high"],
        "p_value": found["p_value"],
        "test": found["test"],
        "margin": margin,
        "kept": int(kept),
        "failed": sum(not is_answered(row) for row in exported),
        "bytes": size,
        "verdict": f"{words}; {'' if kept else 'not shown to be '}within the margin of {margin:g}",
    }
    if apart := logprob_differences(measured, exported):
        scores["logprob_difference"] = round(fmean(apart), 4)
    return scores


def logprob_differences(measured: Sequence[Prediction], exported: Sequence[Prediction]) -> list[float]:
    """Return how far apart the log-probabilities of each token are, in rows with equal answers of as many tokens.

    Some servers give the token that ends an answer too. The same text can be made of other tokens, which do not count,
    and a part of a character has the same text whichever it is.
    """
    found = []
    for one, other in zip(measured, exported, strict=True):
        tokens, others = one.get("logprobs", []), other.get("logprobs", [])
        if one["answer"] == other["answer"] and abs(len(tokens) - len(others)) <= 1:
            same = ((a[0], b[0]) for a, b in zip(tokens, others, strict=False) if a[0][0] == b[0][0])
            pairs = ((a[1], b[1]) for a, b in same if PART not in a[0])
            found += [abs(a - b) for a, b in pairs if a is not None and b is not None]
    return found


def refuse_another_model(
    name: str, scores: ExportScores, base: str, measured: Sequence[Prediction], exported: Sequence[Prediction]
) -> None:
    """Raise FinetuneError if a format answers so differently that it is another model.

    Rounding may change the end of most long answers, but hardly their first words, nor the log-probabilities of equal
    answers. Four bits may change any answer.
    """
    if name == FOUR_BITS:
        return
    apart = scores.get("logprob_difference", 0.0)
    begin = [a["answer"].split()[:1] == b["answer"].split()[:1] for a, b in zip(measured, exported, strict=True)]
    few = fmean(begin) < FEW or (scores["agreement"] < FEW and not scores["kept"] and not apart)
    if apart <= FAR and not few:
        return
    figures = f"{scores['agreement']:.0%} of its answers are equal" + (
        f", and their tokens' log-probabilities differ by {apart:.2f} on average" if apart else ""
    )
    raise FinetuneError(
        f"{name} is not the model that was measured: {figures}. Its weights are of another base, another revision of"
        f" {base}, or another adapter.",
        "Set export.base in params.yaml to the base that the model was tuned from, or measure again with:"
        " dvc repro -f -s tuned",
    )
