"""Check one training file: line by line, then as a whole.

Every finding is reported, with a stable code, its file and line, what is wrong, and how to fix it. Findings do not
repeat texts, except names of classes and separators. A file is read in chunks, by several processes, and only hashes
of each example are kept, so a file may be larger than memory.
"""

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import orjson

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.data.checks.check_lines import MOST_CLASSES, CheckedLines, check_lines
from finetune.data.checks.findings import counted
from finetune.data.checks.whole_file import CheckedFile, check_classes, check_labels, check_repeats, check_systems
from finetune.data.examples import shape_of
from finetune.data.parallel import cut_into_chunks, map_in_parallel
from finetune.data.token_counts import counter

MIN_EXAMPLES = 10
LARGEST_DOCUMENT = 64 * 1024**2  # bytes; a larger file is not read whole to see whether it is one JSON document
WHOLE_FILE_CODES = {"not_utf8_file", "json_not_jsonl"}  # with one of these, the lines are not checked
Bom = Literal["refused", "required"]
Method = Literal["supervised", "dpo", "reinforcement"]


def check_file(
    path: Path,
    method: Method | None = None,
    encoding: str | None = None,
    context: int | None = None,
    bom: Bom = "refused",
    training: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    labels: Sequence[str] = (),
) -> CheckedFile:
    """Return all findings in one JSONL file.

    `method` is the method that the file is for, None for that of its first example. `encoding` is the vocabulary in
    which tokens are counted, None for no count. `context` is the training context in tokens. A file that is not for
    `training` needs only one example, and its classes may be small. `labels` are all answers that are allowed, () for
    any. Raises FinetuneError when it cannot be read.
    """
    checked = CheckedFile(str(path))
    try:
        with open(path, "rb") as content:
            first = content.readline(LARGEST_DOCUMENT)
        start = check_opening(checked, first, bom)
        if start is not None:
            method = method or method_of(path, start)
            check_all_lines(checked, path, start, method, encoding, context, workers, progress)
    except OSError as error:
        raise FinetuneError(f"Cannot read {path}: {error.strerror or error}.", "Check the file's name.") from error
    if not len(checked.rows) and not checked.findings:
        checked.add("empty_file", "error", 0, "the file has no examples", "Add examples.")
    elif (
        training and len(checked.rows) < MIN_EXAMPLES and not any(f.code in WHOLE_FILE_CODES for f in checked.findings)
    ):
        what = f"{counted(len(checked.rows), 'example')}; a job needs at least {MIN_EXAMPLES}"
        checked.add("too_few_examples", "error", 0, what, "Add examples; gains begin at 50 to 100.")
    check_repeats(checked)
    check_systems(checked)
    check_labels(checked, labels)
    if training:
        check_classes(checked, labels)
    return checked


def check_all_lines(
    checked: CheckedFile,
    path: Path,
    start: int,
    method: Method,
    encoding: str | None,
    context: int | None,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Check the lines from the byte `start` on, chunk by chunk, and add the results to `checked`."""
    chunks = cut_into_chunks(path, start)
    work = partial(check_lines, file=checked.file, method=method, encoding=encoding, context=context)
    if encoding:
        counter(encoding)  # loaded once, before processes are forked
    parts = []
    for part in map_in_parallel(work, chunks, path.stat().st_size, workers, may_fork=True):
        parts.append(part)
        if progress:
            progress(len(parts), len(chunks), path.name)
    join_parts(checked, parts)


def join_parts(checked: CheckedFile, parts: list[CheckedLines]) -> None:
    """Add the results of a file's chunks, with lines counted from the file's first."""
    before = 0
    checked.answers = Counter()
    for part in parts:
        checked.findings += [replace(finding, line=finding.line + before) for finding in part.findings]
        part.rows["line"] += before
        before += part.count
        if checked.answers is not None:
            checked.answers = checked.answers + part.answers if part.answers is not None else None
            if checked.answers is not None and len(checked.answers) > MOST_CLASSES:
                checked.answers = None
    if parts:
        checked.rows = np.concatenate([part.rows for part in parts])


def check_opening(checked: CheckedFile, first: bytes, bom: Bom) -> int | None:
    """Check the first line of a file, and return the place behind its byte-order mark; None where it is not JSONL.

    Some providers require the mark of UTF-8, others refuse it.
    """
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in first[:4]:
        checked.add("not_utf8_file", "error", 0, "the file is in UTF-16 or UTF-32", "Save it as UTF-8.")
        return None
    has_mark = first.startswith(BOM_UTF8)
    if has_mark and bom == "refused":
        what = "the file begins with a byte-order mark"
        checked.add("bom", "error", 1, what, "Save it as UTF-8 without a byte-order mark.")
    elif first and not has_mark and bom == "required":
        what = "the file has no byte-order mark, which this provider requires"
        checked.add("bom", "error", 1, what, "Save it as UTF-8 with a byte-order mark.")
    if is_json_document(first.removeprefix(BOM_UTF8), checked.file):
        what = "the file is one JSON document, not one example per line"
        checked.add("json_not_jsonl", "error", 0, what, "Write each example on its own line (--fix does it).")
        return None
    return len(BOM_UTF8) if has_mark else 0


def is_json_document(first: bytes, file: str) -> bool:
    """Return whether a file is one JSON value over several lines, or a list of examples."""
    if first.strip()[:1] not in (b"[", b"{"):
        return False
    with suppress(orjson.JSONDecodeError):
        return isinstance(orjson.loads(first), list)
    if Path(file).stat().st_size < LARGEST_DOCUMENT:
        with suppress(orjson.JSONDecodeError):
            return isinstance(orjson.loads(Path(file).read_bytes().removeprefix(BOM_UTF8)), (list, dict))
    return False


def method_of(path: Path, start: int) -> Method:
    """Return the method that the first example of a file is for."""
    with open(path, "rb") as content:
        content.seek(start)
        for line in islice(content, 100):
            with suppress(orjson.JSONDecodeError):
                example = orjson.loads(line)
                if isinstance(example, dict):
                    return "dpo" if shape_of(example) == "preference" else "supervised"
    return "supervised"
