"""How near free text comes to the text that was wanted."""

import unicodedata
from collections.abc import Sequence


def generation(expected: Sequence[str], answered: Sequence[str]) -> tuple[list[float], dict[str, float | str]]:
    """chrF of each row (0 to 1), and of all: chrF and BLEU (sacrebleu), ROUGE-L, exact match, length ratio.

    `signature` is sacrebleu's: with it the figure can be compared with others'.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    chrf, bleu = CHRF(), BLEU(tokenize="char" if any(map(is_unspaced, expected)) else "13a")
    rows = [chrf.sentence_score(guess, [truth]).score / 100 for truth, guess in zip(expected, answered, strict=True)]
    rouge = RougeScorer(["rougeL"], tokenizer=Pieces())
    overlaps = [rouge.score(truth, guess)["rougeL"].fmeasure for truth, guess in zip(expected, answered, strict=True)]
    lengths = sum(map(len, answered)) / max(1, sum(map(len, expected)))
    metrics: dict[str, float | str] = {
        "chrf": round(sum(rows) / len(rows), 4),
        "chrf_corpus": round(chrf.corpus_score(list(answered), [list(expected)]).score / 100, 4),
        "bleu": round(bleu.corpus_score(list(answered), [list(expected)]).score / 100, 4),
        "rouge_l": round(sum(overlaps) / len(overlaps), 4),
        "exact_match": round(sum(map(str.__eq__, expected, answered)) / len(rows), 4),
        "length_ratio": round(lengths, 4),
        "signature": f"{chrf.get_signature()} {bleu.get_signature()}",
    }
    return rows, metrics


class Pieces:
    """A tokenizer for rouge-score, whose own drops every letter beyond ASCII: words, and each sign of scripts
    that are written without spaces."""

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
    """Whether a text has letters of Japanese, Chinese or Thai."""
    return any(
        "\u3040" <= letter <= "\u30ff" or "\u3400" <= letter <= "\u9fff" or "\u0e00" <= letter <= "\u0e7f"
        for letter in text
    )
