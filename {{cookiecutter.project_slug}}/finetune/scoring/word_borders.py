"""Whether a text that is found in another one is a word of its own there, in any script.

Chinese, Japanese, Thai and similar scripts have no spaces, and Korean has endings without spaces, so any of their
letters may follow a class. Katakana is an exception: a run of it is one word.
"""

import regex

SPACELESS = r"\p{Han}\p{Hiragana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
KATAKANA = r"[\p{Katakana}ー]"
PART = r"[\udc80-\udcff]"  # a byte of a letter that a later token completes
LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}]--[{SPACELESS}\p{{Katakana}}ー]]"
BEGINS_INSIDE = regex.compile(
    rf"(?<={LETTER}|{LETTER}[-_.@])(?={LETTER})"  # nonspam, non-spam
    rf"|(?<=[-+.,\p{{Sc}}]|\d[:/^])(?=\d)"  # -1, .1, $1, 10:1
    rf"|(?<={KATAKANA})(?={KATAKANA})",
    regex.V1,
)
ENDS_INSIDE = regex.compile(
    rf"(?<={LETTER})(?:[_'.@]?{LETTER}|{PART}|-(?!-)|[+#])"  # spammer, spam's, spam-free, A-, A+
    rf"|(?<=\d)(?:[.,:/^]\d|[%‰°\p{{Sc}}])"  # 1.5, 1/10, 1%
    rf"|(?<={KATAKANA}){KATAKANA}",
    regex.V1,
)


def is_whole_word(text: str, start: int, end: int) -> bool:
    """Return whether a part of a text neither begins nor ends inside a longer word or number."""
    return not BEGINS_INSIDE.match(text, start) and not ENDS_INSIDE.match(text, end)
