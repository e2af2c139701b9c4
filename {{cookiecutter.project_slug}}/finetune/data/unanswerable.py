"""Questions that their context cannot answer: rows that a column marks, and rows that get another row's context."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import SEEK_END
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from finetune.core.callbacks import Progress
from finetune.core.errors import FinetuneError
from finetune.core.records.prepared import Example
from finetune.core.sections.data import Abstain
from finetune.data.cell_paths import cell_of
from finetune.data.class_codes import codes_text
from finetune.data.example_spool import NewExample, SpooledExamples, SpoolRows, spool_examples
from finetune.data.hashes import mix_bits, sha256_64
from finetune.data.identity import question_hash, question_of
from finetune.data.prompts import PLACEHOLDER, Template, cell_text, fill_with
from finetune.data.raw_file import Row
from finetune.data.redaction import redact, shown
from finetune.data.split import SPLITS, Nearness, leaks
from finetune.data.text_normalization import comparison_key, normalize

YES = {"true", "yes", "1", "1.0", "x"}  # 1.0: Parquet stores whole numbers so where some cells are missing
NO = {"", "false", "no", "0", "0.0"}
MOST_TRIED = 50  # contexts that are tried for one row

# For each row: hashes of its context (0: none) and of its question, and whether it has an answer.
CONTEXT_DTYPE = np.dtype("u8, u8, ?")
CONTEXT_DTYPE.names = ("context", "question", "answerable")
ContextRows = NDArray[Any]  # of CONTEXT_DTYPE


def is_marked(row: Row, column: str, place: str) -> bool:
    """Return whether a row's cell marks it as unanswerable. Raises FinetuneError for a cell of neither yes nor no."""
    cell = normalize(cell_text(cell_of(row, column)))
    if cell not in YES | NO:
        raise FinetuneError(
            f"{place}: the column {column!r} of data.abstain.column says {shown(cell_text(cell_of(row, column)))}.",
            "Write true, yes, 1 or x for a row that cannot be answered; false, no, 0 or nothing for other rows.",
        )
    return cell in YES


def question_columns(template: Template, context: str, codes: Mapping[str, str]) -> list[str]:
    """Return the columns of the prompt other than the context.

    Raises FinetuneError where the prompt does not use the context, or uses only the context: with another context such
    a row would ask the question of another row.
    """
    if not template:
        raise FinetuneError(
            "data.abstain.share needs data.prompt: rows of other formats do not separate context and question.",
            "Mark rows by data.abstain.column, or write a template under data.prompt.",
        )
    columns = {name for role in ("system", "user") for name in PLACEHOLDER.findall(template.get(role) or "")}
    if context not in columns:
        raise FinetuneError(
            f"data.abstain.context names {context!r}, which data.prompt does not use.",
            f"The prompt uses: {', '.join(sorted(columns)) or 'no column'}.",
        )
    if columns <= ({context, "codes"} if codes else {context}):
        raise FinetuneError(
            f"data.prompt uses only {context!r}: with another context a row would ask the question of another row.",
            "Put the question's column in data.prompt.user too, or remove data.abstain.share.",
        )
    return sorted(columns - {context})


def context_rows(
    spooled: SpooledExamples, rows: SpoolRows, context: str, columns: Sequence[str], answer: str
) -> ContextRows:
    """Return a row of CONTEXT_DTYPE for each row; `answer` is the answer of unanswerable rows."""
    found = np.empty(len(rows), CONTEXT_DTYPE)
    unanswerable = comparison_key(answer)
    for number, row in enumerate(rows):
        given = comparison_key(orjson.loads(spooled.line(row))["messages"][-1]["content"])
        cells = spooled.cells(row)
        passage = comparison_key(cell_text(cells.get(context)))
        question = b"\0".join(comparison_key(cell_text(cells.get(column))) for column in columns)
        found[number] = sha256_64(passage) if passage else 0, sha256_64(question), given != unanswerable
    return found


def choose_contexts(rows: SpoolRows, contexts: ContextRows, share: float) -> NDArray[np.int64]:
    """Return for each row the index of the row whose context it also gets; -1 for none.

    `share` of the rows with an answer and a context are chosen, by the hash of the example. That hash is also where the
    search in the sorted hashes of the split's contexts begins. So rows that are added or removed change few others. A
    row never gets a context with which its question is asked already, or one that a later split has.
    """
    found = np.full(len(rows), -1, np.int64)
    context, question = contexts["context"], contexts["question"]
    known = np.unique(pair_hashes(context, question))
    chosen = contexts["answerable"] & (context != 0) & (mix_bits(rows["digest"]) / 2.0**64 < share)
    order = np.lexsort((rows["cells"], rows["digest"]))  # one context may be spelled in several ways
    for split in range(len(SPLITS)):
        later = context[rows["split"] > split]
        usable = order[(rows["split"][order] == split) & (context[order] != 0) & ~np.isin(context[order], later)]
        hashes, first = np.unique(context[usable], return_index=True)
        left = np.flatnonzero(chosen & (rows["split"] == split)) if len(hashes) else np.empty(0, np.int64)
        for step in range(min(MOST_TRIED, len(hashes))):
            at = (np.searchsorted(hashes, rows["digest"][left]) + step) % len(hashes)
            fits = ~np.isin(pair_hashes(hashes[at], question[left]), known)
            found[left[fits]] = usable[first[at[fits]]]
            left = left[~fits]
            if not len(left):
                break
    return found


def pair_hashes(context: NDArray[Any], question: NDArray[Any]) -> NDArray[Any]:
    """Return a hash of each context with each question of the same index."""
    pairs: NDArray[Any] = mix_bits(context) ^ question
    return pairs


def with_mismatched(
    spooled: SpooledExamples,
    rows: SpoolRows,
    abstain: Abstain,
    template: Template,
    codes: dict[str, str],
    near: Nearness,
    workers: int | None = None,
    progress: Progress | None = None,
    redacted: Sequence[str] = (),
) -> SpoolRows:
    """Return the rows, a share of them followed by a copy, in the same split, with another row's context.

    A copy that would be near to a row of another split is left out; no original row is. `redacted` are the kinds of
    data.redact. Raises FinetuneError where all
    rows have the same context.
    """
    context, share = abstain.context or "", abstain.share or 0.0
    answer = codes.get(abstain.answer, abstain.answer)
    fixed = {"codes": codes_text(codes)} if codes else {}
    contexts = context_rows(spooled, rows, context, question_columns(template, context, codes), answer)
    if share and len(np.unique(contexts["context"][contexts["context"] != 0])) < 2:
        raise FinetuneError(
            f"All rows have the same {context!r}, the column of data.abstain.context, so none can get another's.",
            "Name the column of the context there, or remove data.abstain.share.",
        )
    sources = choose_contexts(rows, contexts, share)
    originals = np.flatnonzero(sources >= 0)
    pairs = zip(rows[originals], rows[sources[originals]], strict=True)
    made = mismatched(spooled, pairs, context, template, fixed, answer, redacted)
    copies = spool_examples(made, spooled.file).rows
    once = np.sort(np.unique(copies["digest"], return_index=True)[1])
    copies, places = copies[once], np.concatenate([np.arange(len(rows)), originals[once]])
    rows = np.concatenate([rows, copies])[np.argsort(places, kind="stable")]
    # Each round leaves out at least one copy. Further rounds find copies that are near to several rows.
    while leaky := leaky_copies(copies, spooled, rows, near, workers, progress):
        rows = rows[~np.isin(rows["start"], list(leaky))]
    return rows


def mismatched(
    spooled: SpooledExamples,
    pairs: Iterable[tuple[Any, Any]],
    context: str,
    template: Template,
    fixed: dict[str, str],
    answer: str,
    redacted: Sequence[str],
) -> Iterator[NewExample]:
    """Yield for each pair of rows the question of the first with the context of the second."""
    for row, other in pairs:
        cells = spooled.cells(row)
        asked = {**fixed, **cells, context: spooled.cells(other)[context]}
        spooled.file.seek(0, SEEK_END)  # where spool_examples writes the next one
        example: Example = redact({"messages": fill_with(template, asked, answer)}, redacted)
        yield int(row["row"]), int(row["split"]), 0, question_hash(question_of(example)), example, cells


def leaky_copies(
    copies: SpoolRows,
    spooled: SpooledExamples,
    rows: SpoolRows,
    near: Nearness,
    workers: int | None,
    progress: Progress | None,
) -> set[int]:
    """Return the places in the file of the copies that are near to a row of another split."""
    starts = set(copies["start"].tolist())
    if not starts:
        return set()
    ordered = rows[np.lexsort((rows["cells"], rows["digest"]))]
    leaky = leaks(spooled, ordered, near, workers, progress)
    found = ((int(leak.row["start"]), int(leak.other["start"])) for leak in leaky)
    return {one if one in starts else other for one, other in found} & starts
