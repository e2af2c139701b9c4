"""Check one training file: line by line, then as a whole.

Every finding is reported, with a stable code, its file and line, what is wrong, and how to fix it. Findings do not
repeat texts, except names of classes and separators. A file is read in chunks, by several processes, and only hashes
of each example are kept, so a file may be larger than memory.
"""

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import orjson

from finetune.core.callbacks import Progress
from finetune.core.counted import counted
from finetune.core.errors import FinetuneError
from finetune.data.checks.check_lines import MOST_CLASSES, CheckedLines, check_lines
from finetune.data.checks.whole_file import CheckedFile, check_classes, check_labels, check_repeats, check_systems
from finetune.data.examples import shape_of
from finetune.data.json_values import Values, values_of
from finetune.data.parallel import cut_into_chunks, map_in_parallel
from finetune.data.token_counts import IMAGE_PRICES, ImagePrices, counter

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
    image_prices: ImagePrices | None = IMAGE_PRICES,
    labels: Sequence[str] = (),
    tokens_exact: bool = True,
) -> CheckedFile:
    """Return all findings in one JSONL file.

    `method` is the method that the file is for, None for that of its first example. `encoding` is the vocabulary in
    which tokens are counted, None for no count. `context` is the training context in tokens. A file that is not for
    `training` needs only one example, and its classes may be small. `image_prices` are the tokens of images, None where
    the model's are not known. `labels` are all answers that are allowed, () for any. `tokens_exact` is false where the
    model's own tokenizer is not `encoding`. Raises FinetuneError when it cannot be read.
    """
    checked = CheckedFile(str(path))
    if str(path) == "-" or (path.exists() and not path.is_file()):
        what = "a folder" if path.is_dir() else "not a file"
        raise FinetuneError(f"Cannot check {path}: it is {what}.", "Write the examples into a file, and name it.")
    try:
        with open(path, "rb") as content:
            first = content.readline(LARGEST_DOCUMENT)
        start = check_opening(checked, first, bom)
        if start is not None:
            method = method or method_of(path, start)
            if encoding:
                counter(encoding, image_prices or IMAGE_PRICES)  # loaded once, before processes are forked
            check = partial(
                check_lines,
                method=method,
                encoding=encoding,
                context=context,
                image_prices=image_prices,
                tokens_exact=tokens_exact,
            )
            check_all_lines(checked, path, start, check, workers, progress)
            join_line_findings(checked, path, start)
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
        check_classes(checked)
    return checked


def check_all_lines(
    checked: CheckedFile,
    path: Path,
    start: int,
    check: Callable[..., CheckedLines],
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Check the lines from the byte `start` on, chunk by chunk, and add the results to `checked`."""
    chunks = cut_into_chunks(path, start)
    parts = []
    for part in map_in_parallel(partial(check, file=checked.file), chunks, path.stat().st_size, workers, may_fork=True):
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
        checked.unknown_images += part.unknown_images
        checked.with_functions += part.with_functions
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
    if (kind := kind_of(first)) is not None:
        fix = f"Use it as raw data: finetune init {checked.file}" if kind != "compressed" else "Unpack it."
        checked.add("json_not_jsonl", "error", 0, f"the file is {kind}, not JSON Lines", fix)
        return None
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
    if fault := layout_fault(first.removeprefix(BOM_UTF8), checked.file):
        checked.add("json_not_jsonl", "error", 0, *fault)
        return None
    return len(BOM_UTF8) if has_mark else 0


def kind_of(first: bytes) -> str | None:
    """Return what a file is that is no JSON at all, by its first bytes; None for any other file."""
    kinds = {b"PK\x03\x04": "a workbook", b"PAR1": "a Parquet file", b"\x1f\x8b": "compressed"}
    return next((kind for mark, kind in kinds.items() if first.startswith(mark)), None)


def layout_fault(first: bytes, file: str) -> tuple[str, str] | None:
    """Return what is wrong and how to fix it where a file's JSON is not one example per line; None where it is.

    Only a file whose first line is not a JSON object is read. A file larger than LARGEST_DOCUMENT is not.
    """
    begin = first.strip()
    if begin[:1] not in (b"", b"[", b"{"):
        return None
    with suppress(orjson.JSONDecodeError):
        if isinstance(orjson.loads(begin), dict):
            return None
    if Path(file).stat().st_size >= LARGEST_DOCUMENT:
        return None
    values = values_of(Path(file).read_bytes().removeprefix(BOM_UTF8))
    if values is None:
        return None
    over_lines = values.over_lines or (values.broken_line is not None and begin in (b"{", b"[", b"[{"))
    with_commas = len(values.texts) > 1 and begin.endswith(b",")
    return not_one_per_line(values) if values.is_list or over_lines or with_commas else None


def not_one_per_line(values: Values) -> tuple[str, str]:
    """Return the fault of a file with these values."""
    count = len(values.texts)
    if values.is_list:
        what = "the file is a JSON list"
    elif values.over_lines or not count:
        what = "the file is one JSON object" if count == 1 and not values.broken_line else "the file has JSON objects"
        what += " over several lines"
    else:
        what = f"the file has {count} JSON objects with commas between them"
    what += ", not one example per line"
    if values.broken_line:
        what += f"; and it is not valid JSON at line {values.broken_line}"
        return what, f"Correct line {values.broken_line}. Then --fix writes each example on its own line."
    return what, "Write each example on its own line (--fix does it)."


def join_line_findings(checked: CheckedFile, path: Path, start: int) -> None:
    """Replace the findings of lines that are parts of objects over several lines by one, which names the cause."""
    if not any(finding.code == "invalid_json" for finding in checked.findings):
        return
    if path.stat().st_size >= LARGEST_DOCUMENT:
        return
    values = values_of(path.read_bytes()[start:])
    if values is None or values.broken_line or not values.over_lines:
        return
    parts = {"invalid_json", "not_an_object", "blank_line", "wrong_shape"}
    first = next(finding.line for finding in checked.findings if finding.code == "invalid_json")
    checked.findings = [finding for finding in checked.findings if finding.code not in parts]
    what = "an example over several lines begins here"
    checked.add("json_not_jsonl", "error", first, what, "Write each example on its own line (--fix does it).")


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
