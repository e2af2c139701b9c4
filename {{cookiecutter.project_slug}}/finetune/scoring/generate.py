"""Score free text by its similarity to the expected text."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.core.records.evaluation import Metrics
from finetune.scoring.design_effect import Values
from finetune.scoring.jackknife import metric_values
from finetune.scoring.text_units import UnitTokenizer, is_by_letter


def generation(expected: Sequence[str], answered: Sequence[str]) -> tuple[dict[str, Values], Metrics]:
    """Compute the values of each answer by metric (0 to 1), and the metrics: chrF, BLEU, ROUGE-L, exact match, length.

    Sources: sacrebleu, rouge-score. `chrf` and `rouge_l` are means of the rows, `chrf_corpus` and `bleu` are over all
    rows. `signature` is sacrebleu's; figures with the same signature can be compared.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.chrf import CHRF

    chrf, rouge = CHRF(), RougeScorer(["rougeL"], tokenizer=UnitTokenizer())
    both = [*zip(expected, answered, strict=True)]
    bleu_values, bleu, bleu_signature = bleu_of_all(expected, answered)
    values: dict[str, Values] = {
        "chrf": [chrf.sentence_score(guess, [truth]).score / 100 for truth, guess in both],
        "bleu": bleu_values,
        "rouge_l": [float(rouge.score(truth, guess)["rougeL"].fmeasure) for truth, guess in both],
        "exact_match": [float(truth == guess) for truth, guess in both],
    }
    metrics: Metrics = {
        "chrf": round(float(np.mean(values["chrf"])), 4),
        "chrf_corpus": round(chrf.corpus_score(list(answered), [list(expected)]).score / 100, 4),
        "bleu": round(bleu, 4),
        "rouge_l": round(float(np.mean(values["rouge_l"])), 4),
        "exact_match": round(float(np.mean(values["exact_match"])), 4),
        "length_ratio": round(sum(map(len, answered)) / max(1, sum(map(len, expected))), 4),
        "signature": f"{chrf.get_signature()} {bleu_signature}",
    }
    return values, metrics


def bleu_of_all(expected: Sequence[str], answered: Sequence[str]) -> tuple[NDArray[np.float64], float, str]:
    """Return the values of each row for BLEU over all rows, BLEU, and the signature of each tokenizer that was used.

    The script of its expected text decides how a row is split. BLEU is computed from all rows' counts (sacrebleu).
    """
    from sacrebleu.metrics.bleu import BLEU

    tokenizers = {False: BLEU(tokenize="13a"), True: BLEU(tokenize="char")}
    used: dict[bool, Any] = {}
    sums = np.zeros((len(expected), 10))
    for row, (truth, guess) in enumerate(zip(expected, answered, strict=True)):
        by_letter = is_by_letter(truth)
        used[by_letter] = tokenizers[by_letter]
        found = used[by_letter].corpus_score([guess], [[truth]])
        sums[row] = [*found.counts, *found.totals, found.sys_len, found.ref_len]

    def score(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        lines = counts.astype(int).tolist()
        scores = [BLEU.compute_bleu(one[:4], one[4:8], one[8], one[9], smooth_method="exp").score for one in lines]
        return np.array(scores) / 100

    values = metric_values(sums, score)
    signature = " ".join(str(used[by_letter].get_signature()) for by_letter in sorted(used))
    return values, float(score(sums.sum(0)[None])[0]), signature
