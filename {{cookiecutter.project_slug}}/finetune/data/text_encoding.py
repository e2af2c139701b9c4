"""Detect the encoding of a text file."""

import codecs
import re
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

BYTE_ORDER_MARKS = {  # UTF-32 before UTF-16, because its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
# Candidates for a text without a mark that is not UTF-8; the supersets of Shift-JIS and EUC-KR that Windows writes.
OTHER_ENCODINGS = ("cp932", "cp949", "euc_jp", "cp1252", "latin_1")
HIRAGANA = re.compile(r"[\u3041-\u309f]")


def detect_encoding(open_file: Callable[[], BinaryIO]) -> str:
    """Return the encoding of a text: that of its byte-order mark, else UTF-8 if it is, else charset-normalizer's guess.

    `open_file` opens the text from its start. Raises ValueError where the text is in none of them.
    """
    with open_file() as content:
        head = content.read(4)
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)()
    done = 0
    try:
        with open_file() as content:
            while chunk := content.read(1024**2):
                decoder.decode(chunk)
                done += len(chunk)
            decoder.decode(b"", final=True)
        return encoding
    except UnicodeDecodeError as error:
        if encoding == "utf-8":
            with open_file() as content:
                guess = guess_encoding(content.read())
            if guess:
                return guess
        raise ValueError(f"not {encoding.upper()}: {error.reason} at byte {done + error.start}") from error


def guess_encoding(content: bytes) -> str | None:
    """Return the most likely encoding of bytes without a mark, None where there is no likely one."""
    from charset_normalizer import from_bytes

    # Text with much hiragana in CP932 is Japanese: bytes of other encodings almost never decode to hiragana.
    # charset-normalizer takes short Japanese texts in Shift-JIS for Korean.
    with suppress(UnicodeDecodeError):
        text = content.decode("cp932")
        if len(HIRAGANA.findall(text)) > 0.15 * sum(not letter.isascii() for letter in text):
            return "cp932"
    found = from_bytes(content, cp_isolation=list(OTHER_ENCODINGS)).best()
    return found.encoding if found else None
