"""Score free text by its similarity to the expected text."""

import unicodedata
from collections.abc import Sequence

from finetune.core.records import Metrics


def generation(expected: Sequence[str], answered: Sequence[str]) -> tuple[list[float], Metrics]:
    """Compute the chrF of each row (0 to 1), and over all rows chrF, BLEU, ROUGE-L, exact match and length ratio.

    Sources: sacrebleu, rouge-score. `signature` is sacrebleu's; figures with the same signature can be compared.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    chrf, bleu = CHRF(), BLEU(tokenize="char" if any(map(is_unspaced, expected)) else "13a")
    rows = [chrf.sentence_score(guess, [truth]).score / 100 for truth, guess in zip(expected, answered, strict=True)]
    rouge = RougeScorer(["rougeL"], tokenizer=WordTokenizer())
    overlaps = [rouge.score(truth, guess)["rougeL"].fmeasure for truth, guess in zip(expected, answered, strict=True)]
    lengths = sum(map(len, answered)) / max(1, sum(map(len, expected)))
    metrics: Metrics = {
        "chrf": round(sum(rows) / len(rows), 4),
        "chrf_corpus": round(chrf.corpus_score(list(answered), [list(expected)]).score / 100, 4),
        "bleu": round(bleu.corpus_score(list(answered), [list(expected)]).score / 100, 4),
        "rouge_l": round(sum(overlaps) / len(overlaps), 4),
        "exact_match": round(sum(map(str.__eq__, expected, answered)) / len(rows), 4),
        "length_ratio": round(lengths, 4),
        "signature": f"{chrf.get_signature()} {bleu.get_signature()}",
    }
    return rows, metrics


class WordTokenizer:
    """A tokenizer for rouge-score: words, and each character of scripts that are written without spaces.

    rouge-score's default tokenizer drops every letter outside ASCII.
    """

    def tokenize(self, text: str) -> list[str]:
        words: list[str] = [""]
        for letter in unicodedata.normalize("NFKC", text).casefold():
            if is_unspaced(letter):
                words += [letter, ""]
            elif letter.isalnum():
                words[-1] += letter
            else:
                words.append("")
        return [word for word in words if word]


def is_unspaced(text: str) -> bool:
    """Return whether a text has letters of Japanese, Chinese or Thai."""
    return any(
        "\u3040" <= letter <= "\u30ff" or "\u3400" <= letter <= "\u9fff" or "\u0e00" <= letter <= "\u0e7f"
        for letter in text
    )
