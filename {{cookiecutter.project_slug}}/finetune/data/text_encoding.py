"""Detect the encoding of a text file."""

import codecs
from collections.abc import Callable
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
CHUNK = 1024**2
OpenFile = Callable[[], BinaryIO]


@dataclass(frozen=True)
class TextEncoding:
    """The encoding of a text; `confidence` only if it is a guess, from 0.5 to 1."""

    name: str
    confidence: float | None = None


def detect_encoding(open_file: OpenFile) -> TextEncoding:
    """Return the encoding of a text: that of its byte-order mark, else UTF-8 if it is, else a guess by its letters.

    `open_file` opens the text from its start. Raises ValueError where the text is in none of them, and where two
    encodings are as likely and give different letters.
    """
    with open_file() as content:
        head = content.read(200)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    encoding = encoding or utf16_without_mark(head) or "utf-8"
    error = decoding_error(open_file, encoding)
    if error is None:
        return TextEncoding(encoding)
    if encoding != "utf-8":
        raise ValueError(error)
    guess = guess_encoding(sample_beyond_ascii(open_file))
    if guess is None:
        raise ValueError(error)
    if guess.confidence < SURE:
        raise ValueError(f"not UTF-8, and may be {guess.encoding} or {guess.rival}, which give different letters")
    if wrong := decoding_error(open_file, guess.encoding):
        raise ValueError(f"{error}; and {wrong}")
    return TextEncoding(guess.encoding, guess.confidence)


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


def sample_beyond_ascii(open_file: OpenFile) -> bytes:
    """Return the lines of a text that are not ASCII, up to the size that is judged; each line once."""
    lines: dict[bytes, None] = {}
    size = 0
    with open_file() as content:
        for line in chain.from_iterable(line.split(b"\r") for line in content):
            if not line.isascii() and line not in lines:
                lines[line] = None
                size += len(line)
                if size > LARGEST:
                    break
    return b"\n".join(lines)
