"""What `finetune init` shows and asks: the file, each setting with the proposal as the default, and the settings."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import typer

from finetune.core.errors import FinetuneError
from finetune.core.task import Task
from finetune.terminal.progress import say
from finetune.terminal.tables import print_table

if TYPE_CHECKING:
    from finetune.data.choose_columns import Choices
    from finetune.data.file_look import FileLook
    from finetune.data.propose_settings import Proposal

CELL, LONG = 32, 120  # letters that are shown of a cell, and of a setting
NONE = "none"  # what to type for no group, and no system prompt
TABLE_QUESTIONS = {
    "answer": "The column of the answer",
    "questions": "The columns of the question, with commas between them",
}
QUESTIONS = {"task": f"The task: {', '.join(get_args(Task))}"}
LAST_QUESTIONS = {"group": f"The column whose rows stay in one split, or {NONE}"}


def show_file(look: "FileLook") -> None:
    """Print how a file was read, its columns with their kinds, and its first rows, without sensitive data."""
    from finetune.core.sections.data import SensitiveKind
    from finetune.data.cell_paths import cell_of
    from finetune.data.prompts import cell_text
    from finetune.data.redaction import redact
    from finetune.terminal.summaries import how_read

    kinds = get_args(SensitiveKind)
    rows = f"{look.rows:,} {'row' if look.rows == 1 else 'rows'} in the format {look.format}"
    print(f"init: read {look.path} ({how_read(look.note)}): {rows}")
    head = ["column", "kind", *(f"row {number}" for number in range(1, len(look.first) + 1))]
    print_table(
        head,
        [
            [
                shortened(name),
                column.kind,
                *(shortened(redact(cell_text(cell_of(row, name)), kinds)) for row in look.first),
            ]
            for name, column in look.columns.items()
        ],
    )
    print()
    if look.not_accepted:
        rows = f"{look.not_accepted:,} {'row' if look.not_accepted == 1 else 'rows'}"
        print(f"init: {rows} that the annotator rejected or ignored are left out.\n")
    if look.turns > 1:
        print(f"init: up to {look.turns} answers in a row. With data.turns: each, each of them is an example.\n")


def shortened(text: str, letters: int = CELL) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def show_proposal(proposal: "Proposal") -> None:
    """Print the settings, each with its reason."""
    asked, split = ", ".join(proposal.questions), proposal.split
    values: dict[str, Any] = {"question": asked, "answer": proposal.answer} if proposal.answer else {}
    values |= {"system": shortened(proposal.system, LONG)} if proposal.system else {}
    values |= {"method": proposal.method} if proposal.method != "supervised" else {}
    values |= {
        "task": proposal.task,
        "labels": shortened(", ".join(proposal.labels), LONG) or NONE,
        "group": proposal.group or NONE,
        "split": ", ".join(f"{name} {value}" for name, value in split.items()),
        "max_tokens": proposal.max_tokens,
    }
    values |= {"few_shot": proposal.few_shot} if proposal.few_shot is not None else {}
    print_table(["setting", "value", "why"], [[key, value, proposal.reasons.get(key)] for key, value in values.items()])
    print()


def ask(look: "FileLook", choices: "Choices", propose: "Callable[[Choices], Proposal]") -> "Choices":
    """Ask for each setting that is not chosen yet, one by one, with the proposal as the default."""
    from finetune.data.choose_columns import AS_BEFORE

    if look.format == "columns":
        questions = {**TABLE_QUESTIONS, **QUESTIONS, "system": f"The system prompt, or {NONE}", **LAST_QUESTIONS}
    else:
        questions = {**QUESTIONS, **LAST_QUESTIONS}
    for name, words in questions.items():
        if name == "system" and propose(choices).reasons["system"] == AS_BEFORE:
            continue
        if getattr(choices, name) is None:
            choices = ask_for(name, words, look, choices, propose)
    return choices


def ask_for(
    name: str, words: str, look: "FileLook", choices: "Choices", propose: "Callable[[Choices], Proposal]"
) -> "Choices":
    """Ask for one setting until the answer fits the file.

    The default is no choice, so that its reason is shown; but the column of the answer stays when questions are chosen.
    """
    proposed = getattr(propose(choices), name)
    default = (", ".join(proposed) if name == "questions" else proposed) or NONE
    while True:
        text = str(typer.prompt(words, default=default)).strip()
        if text == default:
            return replace(choices, answer=proposed) if name == "answer" else choices
        chosen = replace(choices, **{name: value_of(name, text, look.columns)})
        try:
            propose(chosen)
        except FinetuneError as error:
            say(f"  {error}")
        else:
            return chosen


def value_of(name: str, text: str, columns: Collection[str]) -> Any:
    """Return what was typed as the value of a choice."""
    if name == "questions":
        return names_in(text, columns)
    return "" if text == NONE and name in ("system", "group") else text


def names_in(text: str, columns: Collection[str]) -> tuple[str, ...]:
    """Return the names in a text with commas between them; the longest ones, for a name may have commas itself."""
    parts, names, start = text.split(","), list[str](), 0
    while start < len(parts):
        ends = range(len(parts), start, -1)
        end = next((end for end in ends if ",".join(parts[start:end]).strip() in columns), start + 1)
        names.append(",".join(parts[start:end]).strip())
        start = end
    return tuple(names)
