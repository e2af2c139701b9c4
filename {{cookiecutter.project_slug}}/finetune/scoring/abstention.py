"""Score whether a model abstains from unanswerable rows, and only from those."""

from collections.abc import Sequence
from itertools import accumulate, takewhile

from finetune.scoring.text_units import words_of
from finetune.scoring.thoughts import without_thoughts


def abstained(answer: str, phrase: str) -> bool:
    """Return whether an answer begins with the phrase; case, width, spaces and punctuation are ignored.

    Whole words are compared: "Normally" does not begin with "no". What a model thinks before its answer is left out.
    """
    answer = without_thoughts(answer)
    wanted = "".join(words_of(phrase))
    if not wanted:  # punctuation only, such as a dash
        return answer.strip() == phrase.strip()
    return wanted in takewhile(lambda beginning: len(beginning) <= len(wanted), accumulate(words_of(answer)))


def abstention(expected: Sequence[str], answered: Sequence[str], phrase: str) -> dict[str, float | int]:
    """Compute precision and recall of abstaining (scikit-learn); 0 if no row is unanswerable, or no answer abstains.

    Also count the unanswerable rows, and those of them that were answered.
    """
    from sklearn.metrics import precision_score, recall_score

    # scikit-learn needs at least one row
    truth, guess = ([int(abstained(text, phrase)) for text in side] or [0] for side in (expected, answered))
    return {
        "abstention_precision": round(float(precision_score(truth, guess, zero_division=0.0)), 4),
        "abstention_recall": round(float(recall_score(truth, guess, zero_division=0.0)), 4),
        "answered_when_it_should_not": sum(a > b for a, b in zip(truth, guess, strict=True)),
        "n_unanswerable": sum(truth),
    }
