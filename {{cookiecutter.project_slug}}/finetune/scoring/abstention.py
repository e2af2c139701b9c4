"""Whether a model says so where it cannot tell, and only there."""

from collections.abc import Sequence
from itertools import accumulate, takewhile

from finetune.scoring.generate import Pieces


def abstained(answer: str, phrase: str) -> bool:
    """Whether an answer is the phrase or begins with it, whatever the case, width, spaces and punctuation.

    Whole words count: "Normally" does not begin with "no".
    """
    words = Pieces().tokenize
    wanted = "".join(words(phrase))
    if not wanted:  # signs alone, such as a dash
        return answer.strip() == phrase.strip()
    return wanted in takewhile(lambda beginning: len(beginning) <= len(wanted), accumulate(words(answer)))


def abstention(expected: Sequence[str], answered: Sequence[str], phrase: str) -> dict[str, float | int]:
    """Precision and recall of abstaining, by scikit-learn: 0 where there is nothing to abstain from, or nobody did.

    Also how many rows could not be answered, and how many of them were answered all the same.
    """
    from sklearn.metrics import precision_score, recall_score

    # scikit-learn wants a row, so where there is none stands one that is answered
    truth, guess = ([int(abstained(text, phrase)) for text in side] or [0] for side in (expected, answered))
    return {
        "abstention_precision": round(float(precision_score(truth, guess, zero_division=0.0)), 4),
        "abstention_recall": round(float(recall_score(truth, guess, zero_division=0.0)), 4),
        "answered_when_it_should_not": sum(a > b for a, b in zip(truth, guess, strict=True)),
        "n_unanswerable": sum(truth),
    }
