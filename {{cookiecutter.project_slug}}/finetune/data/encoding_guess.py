"""Guess the encoding of a text that is not Unicode, by its letters and by n-grams of 50 languages (chardet)."""

import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

# What programs write today, or wrote in the last decades; of encodings with the same letters the largest.
CANDIDATES = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "iso8859-2", "iso8859-5"),
    *("iso8859-7", "iso8859-9", "iso8859-15", "koi8-r", "koi8-u", "cp866", "cp850", "cp852", "mac-roman"),
    *("mac-cyrillic", "gb18030", "big5", "cp932", "euc-jp", "cp949", "cp874"),
)
COMMON = {"cp1252": 1.1, "iso8859-15": 1.1, "cp1251": 1.04}  # decides for short texts that others explain as well
SURE = 0.55  # from this confidence on, a guess is taken
RIVALS = 5  # candidates that are compared with the best one
LARGEST = 100_000  # bytes that are judged
KANA = re.compile(r"[\u3041-\u30ff]")
MUCH_KANA = 0.15
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
WORD = re.compile(r"[^\W\d_]{2,}")
CELL_WORD = re.compile(r"[^\s,;\t\"]+")
SIGNS = "«»‘’“”–—…·。、，！？：；（）「」"  # that stand beside letters
# Signs inside or beside words, as in "мо€" and "Ma–ana", control characters and frames.
ODD = re.compile(
    rf"(?<=[^\W\d_])[^\w\s\x00-\x7f{SIGNS}]|[^\w\s\x00-\x7f{SIGNS}¿¡](?=[^\W\d_])|(?<=\s)…(?=\s)"
    r"|(?<=[^\W\d_])[–—](?=[^\W\d_])|[\x80-\x9f\u2500-\u259f\ue000-\uf8ff]"
)
# Signs where they belong: I’m, l’adresse, “word”, a – b, £5, 5€, 20°.
WELL_PLACED = re.compile(
    r"(?<=[^\W\d_])’(?=(?:s|t|m|re|ve|ll|d)\b)|\b(?<=\b[^\W\d_])’(?=[^\W\d_]{2})|(?:(?<=[\s,;(\[])|^)[“„«‘](?=\w)"
    r"|(?<=[\w.!?,…])[”“»’](?=[\s,;.!?)]|$)|(?<=\s)[–—](?=\s)|[£€](?=\d)|(?<=\d)[€°£]|(?<=\w)…(?=[\s,;.)]|$)",
    re.M,
)
LONE = re.compile(r"(?<=[a-z] )[^\W\d_\x00-\x7f](?=\s)")  # odd if it is a capital, as in "fatura Ž incorreta"
SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI"})


@dataclass(frozen=True)
class Guess:
    """An encoding, from 0.5 (another one is as likely) to 1 how sure it is, and the most likely other one."""

    encoding: str
    confidence: float
    rival: str | None = None


@dataclass(frozen=True)
class Reading:
    """A text as one encoding reads it, and how likely it is."""

    encoding: str
    score: float
    text: str


def guess_encoding(content: bytes) -> Guess | None:
    """Return the most likely encoding of bytes, None where there is none. Encodings with the same letters are one."""
    # Text with much kana is Japanese: bytes of other encodings almost never decode to kana.
    for encoding in ("cp932", "euc_jp"):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if len(KANA.findall(text)) > MUCH_KANA * len(BEYOND_ASCII.findall(text)):
                return Guess(encoding, 1.0)
    readings = rank(content, CANDIDATES)
    if not readings:
        return None
    best = readings[0]
    likely = [other for other in readings[1 : RIVALS + 1] if other.score > best.score / 2]
    sure = {other.encoding: confidence(best, other) for other in likely}
    rival = min(sure, key=lambda name: sure[name], default=None)
    return Guess(best.encoding, round(sure[rival], 2) if rival else 1.0, rival)


def rank(content: bytes, encodings: Sequence[str]) -> list[Reading]:
    """Return each different text that encodings read, the most likely first."""
    import chardet

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that cp1252 is not among `encodings`
        found = chardet.detect_all(content, ignore_threshold=True, compat_names=False, include_encodings=encodings)
    best: dict[str, Reading] = {}
    for one in found:
        name = one["encoding"]
        with suppress(UnicodeDecodeError):
            text = content.decode(name) if name else ""
            if name and text not in best:
                likely = one["confidence"] * letters_weight(text) * COMMON.get(name, 1)
                best[text] = Reading(name, likely, text)
    return sorted(best.values(), key=lambda reading: -reading.score)


def confidence(best: Reading, other: Reading) -> float:
    """Return how sure the best reading is against another one, by the words that they read differently."""
    scores = {best.encoding: best.score, other.encoding: other.score}
    if len(best.text) == len(other.text):
        pairs = ((best.text[m.start() : m.end()], other.text[m.start() : m.end()]) for m in words_of(best.text))
        different = " ".join(dict.fromkeys(one for one, two in pairs if one != two)).encode(best.encoding)
        scores = dict.fromkeys(scores, 0.0)
        scores |= {reading.encoding: reading.score for reading in rank(different, (best.encoding, other.encoding))}
    total = scores[best.encoding] + scores[other.encoding]
    return scores[best.encoding] / total if total else 0.5


def words_of(text: str) -> Iterable[re.Match[str]]:
    return CELL_WORD.finditer(text)


def letters_weight(text: str) -> float:
    """Return a factor: below 1 for odd letters, as in "cafŽ" and "мо€"; above 1 for signs where they belong."""
    beyond = len(BEYOND_ASCII.findall(text))
    if not beyond:
        return 1
    odd = len(ODD.findall(text)) + sum(map(str.isupper, LONE.findall(text)))
    odd += sum(odd_letters(word) for word in WORD.findall(text) if not word.isascii())
    return float((1 - min(1, odd / beyond)) ** 2 * (1 + len(WELL_PLACED.findall(text)) / beyond))


def odd_letters(word: str) -> int:
    """Return how often a capital follows a small letter; one more for a word of two scripts."""
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in word} & SCRIPTS
    return sum(a.islower() and b.isupper() for a, b in pairwise(word)) + (len(scripts) > 1)
