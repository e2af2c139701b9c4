"""Split texts into what BLEU and ROUGE compare: words, or letters where words are not written apart.

Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese are compared by letters: without spaces there are no words to
split at, and Korean joins endings to them. Sources: the tokenizers `13a` and `char` of sacrebleu (Post 2018, "A Call
for Clarity in Reporting BLEU Scores"); rouge-score, whose own tokenizer drops every letter outside ASCII.
"""

import unicodedata

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
BY_LETTER = regex.compile(rf"[{UNSPACED}\p{{Hangul}}]")
UNITS = regex.compile(rf"[{UNSPACED}\p{{Hangul}}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}\p{{Hangul}}]]+", regex.V1)
WORDS = regex.compile(rf"[{UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{UNSPACED}]]+", regex.V1)


class UnitTokenizer:
    """The tokenizer for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text, and each letter of the scripts that are compared by letters."""
        return list(UNITS.findall(unicodedata.normalize("NFKC", text).casefold()))


def words_of(text: str) -> list[str]:
    """Return the words of a text, and each letter of scripts that are written without spaces; Korean has spaces."""
    return list(WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def is_by_letter(text: str) -> bool:
    """Return whether a text is compared by letters: at least half of its words and letters are such letters."""
    units = UnitTokenizer().tokenize(text)
    return bool(units) and 2 * sum(bool(BY_LETTER.match(one)) for one in units) >= len(units)
