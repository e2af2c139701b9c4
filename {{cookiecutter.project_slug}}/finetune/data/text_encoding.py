"""Detect the encoding of a text file."""

import codecs
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

from finetune.data.encoding_guess import LARGEST, SURE, guess_encoding

BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, because its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
SWITCH = b"\x1b$"  # begins letters of two bytes in encodings that are ASCII byte by byte, as Japanese e-mail has them
SWITCHING = ("iso2022_jp", "iso2022_kr")
CLEAR = 3  # letters of a line that are hardly UTF-8 by chance
CHUNK = 1024**2
OpenFile = Callable[[], BinaryIO]


@dataclass(frozen=True)
class TextEncoding:
    """The encoding of a text; `confidence` only if it is a guess, from 0.5 to 1."""

    name: str
    confidence: float | None = None


def detect_encoding(open_file: OpenFile) -> TextEncoding:
    """Return the encoding of a text: that of its byte-order mark, else UTF-8 if it is, else a guess by its letters.

    `open_file` opens the text from its start. Raises ValueError, perhaps with what to do as its second argument, where
    the text is in none of them or in two, and where two encodings are as likely and give different letters.
    """
    with open_file() as content:
        head = content.read(CHUNK)
    encoding = marked_encoding(head) or utf16_without_mark(head[:200]) or "utf-8"
    error = decoding_error(open_file, encoding)
    if error is None:
        switched = next((name for name in SWITCHING if SWITCH in head and not decoding_error(open_file, name)), None)
        return TextEncoding(switched or encoding)
    if encoding != "utf-8":
        raise ValueError(error)
    right, wrong_lines = lines_beyond_ascii(open_file)
    if fault := mixed_encodings(right, wrong_lines):
        raise ValueError(
            fault, "Save the file as UTF-8. If parts of it are from several files, convert each of them first."
        )
    guess = guess_encoding(b"\n".join([*right, *wrong_lines]))
    if guess is None:
        raise ValueError(error)
    if guess.confidence < SURE:
        raise ValueError(f"not UTF-8, and may be {guess.encoding} or {guess.rival}, which give different letters")
    if wrong := decoding_error(open_file, guess.encoding):
        raise ValueError(f"{error}; and {wrong}")
    return TextEncoding(guess.encoding, guess.confidence)


def marked_encoding(head: bytes) -> str | None:
    """Return the encoding that a text's byte-order mark names; None if it has no mark."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)


def mixed_encodings(right: dict[bytes, int], wrong: dict[bytes, int]) -> str | None:
    """Return what is wrong with a text of which only some lines are UTF-8; None if it may be in another encoding.

    Such lines are UTF-8 by chance if they are few, and have other letters than the lines that are not.
    """
    text = b"\n".join(wrong)
    with suppress(UnicodeDecodeError):
        text.decode("utf-8", "surrogatepass")
        return f"not UTF-8: halves of letters (surrogates) in line {min(wrong.values())}"
    guess = guess_encoding(text) if right else None
    letters = set(letters_of(b"\n".join(right)))
    common = letters & set(letters_of(text, guess.encoding)) if guess else set()
    clear = sum(len(letters_of(line)) >= CLEAR for line in right)
    if len(right) > len(wrong) or (right and clear >= len(wrong)) or (letters and 3 * len(common) >= len(letters)):
        return f"in two encodings: line {min(right.values())} is UTF-8, and line {min(wrong.values())} is not"
    return None


def letters_of(line: bytes, encoding: str = "utf-8") -> list[str]:
    """Return the letters of a text that are not ASCII."""
    return [letter for letter in line.decode(encoding, "replace") if not letter.isascii() and letter.isalpha()]


def utf16_without_mark(head: bytes) -> str | None:
    """Return UTF-16 in the byte order that makes the first letters ASCII; None where there are no such letters."""
    first, second = head[::2].count(0), head[1::2].count(0)  # zeros; other text has none
    if max(first, second) * 8 <= len(head):
        return None
    return "utf-16-le" if second > 4 * first else "utf-16-be" if first > 4 * second else None


def decoding_error(open_file: OpenFile, encoding: str) -> str | None:
    """Return why a text is not in an encoding, with the line; None if it is."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = 1
    try:
        with open_file() as content:
            while chunk := content.read(CHUNK):
                lines += decoder.decode(chunk).count("\n")
            decoder.decode(b"", final=True)
        return None
    except UnicodeDecodeError as error:
        line = lines + error.object[: error.start].count(b"\n")
        return f"not {encoding.upper()}: {error.reason} in line {line}"


def lines_beyond_ascii(open_file: OpenFile) -> tuple[dict[bytes, int], dict[bytes, int]]:
    """Return the lines of a text that are not ASCII with their numbers, each line once: those in UTF-8, and others.

    Of both, only the first ones are returned, up to the size that is judged.
    """
    right: dict[bytes, int] = {}
    wrong: dict[bytes, int] = {}
    sizes = {True: 0, False: 0}
    with open_file() as content:
        lines = chain.from_iterable(line.rstrip(b"\r\n").split(b"\r") for line in content)
        for number, line in enumerate(lines, 1):
            if not line.isascii():
                is_right = is_utf8(line)
                found = right if is_right else wrong
                if sizes[is_right] < LARGEST and line not in found:
                    found[line] = number
                    sizes[is_right] += len(line)
    return right, wrong


def is_utf8(line: bytes) -> bool:
    with suppress(UnicodeDecodeError):
        line.decode()
        return True
    return False
