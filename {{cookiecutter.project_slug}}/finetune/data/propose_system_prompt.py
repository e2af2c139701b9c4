"""Propose the system prompt: the former one, the column that has it, or a sentence about the columns."""

from collections.abc import Collection, Sequence

from finetune.core.task import Task
from finetune.data.choose_columns import AS_BEFORE, Choices
from finetune.data.file_look import NUMBER, Column, FileLook

LONGEST_LIST = 1_000  # letters of the classes in a prompt; without them it costs less, and the model learns them
SYSTEM_NAMES = ("system", "system_prompt")


def system_prompt(
    look: FileLook, choices: Choices, task: Task, questions: Sequence[str], answers: Column, labels: Sequence[str]
) -> tuple[str, str]:
    """Return the system prompt, and why: "" for a new sentence, which needs no reason."""
    former = former_system(look, choices, answers.name)
    if former is not None:
        return former, AS_BEFORE
    column = system_column(look, {*questions, answers.name})
    if column is not None:
        return column, "its column"
    return system_sentence(task, questions, answers, labels), ""


def former_system(look: FileLook, choices: Choices, answer: str) -> str | None:
    """Return the system prompt of params.yaml if it is for this answer, "" for none.

    None for a sentence that `init` wrote: the columns or the classes may have changed since.
    """
    found = choices.former_system(answer)
    asked = listed_in_words(choices.former_columns("user", look))
    own = (
        f"Classify {asked}. Answer with one of: ",
        f"Classify {asked}. Answer with the {answer}",
        f"Find the {answer} in {asked}. Answer with a JSON ",
        f"Write the {answer} for {asked}.",
    )
    return None if found and found.startswith(own) else found


def system_column(look: FileLook, taken: Collection[str]) -> str | None:
    """Return the placeholder of a column with the system prompt of each row; None if there is none."""
    for name, column in look.columns.items():
        is_system = name.casefold().replace(" ", "_") in SYSTEM_NAMES
        if is_system and name not in taken and column.filled == look.rows:
            return f"{{{name}}}"
    return None


def system_sentence(task: Task, questions: Sequence[str], answers: Column, labels: Sequence[str]) -> str:
    """Return a sentence that says what the model does with a question."""
    asked = listed_in_words(questions)
    if task == "classify":
        names = ("; " if any("," in label for label in labels) else ", ").join(labels)
        shown = len(names) <= LONGEST_LIST and "{" not in names and "}" not in names
        # Numbers, or true and false, say nothing without the column's name.
        what = f"the {answers.name}, one of" if all(map(says_nothing, labels)) else "one of"
        rest = f"Answer with {what}: {names}." if shown else f"Answer with the {answers.name} only."
        return f"Classify {asked}. {rest}"
    if task == "extract":
        keys = ", ".join(sorted(answers.keys))
        with_keys = f" with the keys {keys}" if keys and "{" not in keys and "}" not in keys else ""
        form = f"object{with_keys}" if answers.objects > answers.lists else "list"
        return f"Find the {answers.name} in {asked}. Answer with a JSON {form}."
    return f"Write the {answers.name} for {asked}."


def says_nothing(label: str) -> bool:
    """Return whether nobody understands the name of a class without its column's: a number, a letter, true or yes."""
    return len(label) == 1 or NUMBER.fullmatch(label) is not None or label.casefold() in ("true", "false", "yes", "no")


def listed_in_words(names: Sequence[str]) -> str:
    last = f" and {'the ' if len(names) == 2 else ''}{names[-1]}" if len(names) > 1 else ""
    return f"the {', '.join(names[:-1] or names)}{last}"
