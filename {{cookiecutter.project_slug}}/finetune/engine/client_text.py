"""Texts that a client may see: they can be encoded, and they name no path of the server."""

import os
import re
import sys
from pathlib import Path

PATH = "(a path of the server)"
QUOTED = re.compile(r"""(['"`])(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'"`\n]*\1""")
UNQUOTED = re.compile(r"""(?<![\w/.:~>-])(?:~?/|[A-Za-z]:[\\/]|\\\\)[\w.~@+-][^\s'"`,;()\[\]]*(?<![:.])""")


def encodable(text: str) -> str:
    """Return the text with half surrogate pairs and NUL written as escapes: neither SQLite nor UTF-8 accepts both."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\u0000")


def without_paths(text: str) -> str:
    """Return the text of an exception without the server's paths.

    The folders that paths most often begin with are replaced first: they may contain spaces.
    """
    folders = {os.environ.get("FINETUNE_HOME", ""), str(Path.home()), sys.prefix, sys.base_prefix}
    for folder in sorted((one for one in folders if len(one) > 1), key=len, reverse=True):
        text = re.sub(rf"{re.escape(folder)}(?=[/\\\s'\"`:,;)]|$)", "/server", text)
    return UNQUOTED.sub(PATH, QUOTED.sub(PATH, text))


def reason(error: BaseException) -> str:
    """Return an unforeseen exception as the reason that a client gets."""
    return encodable(without_paths(f"{type(error).__name__}: {error}"))
