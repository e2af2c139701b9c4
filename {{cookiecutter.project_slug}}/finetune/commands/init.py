"""`finetune init`: write params.yaml for a file of your own, and check the data."""

import filecmp
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finetune.commands import pipeline
from finetune.commands.init_dialogue import ask, shortened, show_file, show_proposal
from finetune.core.errors import FinetuneError
from finetune.core.task import Task

if TYPE_CHECKING:
    from finetune.data.choose_columns import Choices
    from finetune.data.propose_settings import Proposal

RAW = Path("data/raw")
LARGE = 20 * 1024**2  # bytes of a file that is better in DVC than in Git


def init(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="Your data: CSV, TSV, XLSX, JSON, JSON Lines, TXT, Parquet or .gz."
        ),
    ],
    task: Annotated[
        Task | None, typer.Option(help="What the answers are: classify (classes), extract (JSON) or generate (text).")
    ] = None,
    question: Annotated[list[str] | None, typer.Option(help="A column of the question; repeatable.")] = None,
    answer: Annotated[str | None, typer.Option(help="The column of the answer.")] = None,
    system: Annotated[str | None, typer.Option(help="The system prompt; '' for none.")] = None,
    group: Annotated[
        str | None, typer.Option(help="A column whose rows stay in one split, such as a customer; '' for none.")
    ] = None,
    sheet: Annotated[str | None, typer.Option(help="The sheet of a workbook; by default, the first one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Take the proposal without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the proposal; write nothing.")] = False,
) -> None:
    """Start with your own data: propose settings, write params.yaml.

    FILE is copied to data/raw if it is elsewhere. Comments in params.yaml stay. Then the data are prepared and checked,
    as by `dvc repro validate`. Each option replaces one part of the proposal. If data.encoding, data.delimiter or
    data.quoting is set in params.yaml, FILE is read so; a file in UTF-8 other than data.file is read as UTF-8.

    Examples: finetune init messages.csv · finetune init faq.xlsx --question Frage --answer Antwort --yes
    """
    from finetune.core.params import checked, read_values
    from finetune.core.paths import PARAMS
    from finetune.core.yaml_edit import edit_yaml
    from finetune.data.choose_columns import Choices
    from finetune.data.new_params import COMMENTS, differences, is_file_of, new_values, reading_of, with_former_choices
    from finetune.data.propose_seed import propose_seed
    from finetune.provider.capabilities import refuse_method

    if not (yes or dry_run or is_terminal()):
        raise FinetuneError(
            "No question can be asked, because this is not a terminal. Nothing was written.",
            "Add --yes to take the proposal, or --dry-run to see it.",
        )
    former = read_values()
    target = place_for(file)
    given = Choices(task, tuple(question) if question else None, answer, system, group)
    given = with_former_choices(given, former, target.as_posix())
    if sheet is None and is_file_of(former, target.as_posix()):
        sheet = former["data"].get("sheet")
    reading = reading_of(former, file, target.as_posix())
    if reading and not is_file_of(former, target.as_posix()):
        set_to = ", ".join(f"data.{key} {value!r}" for key, value in reading.items())
        print(f"init: {file} is read with what params.yaml says: {set_to}. If that is for another file, remove it.")
    with saying_that_nothing_is_written():
        proposal = proposal_for(file, sheet, reading, given, former, interactive=not (yes or dry_run))
    values = new_values(former, proposal, target.as_posix(), sheet, reading)
    params = checked(values)
    refuse_method(params)
    own = params.data.model_copy(update={"file": str(file)})
    if given.split is None and (seed := propose_seed(own, file.stat().st_size)):
        values["data"]["split"]["seed"] = seed.seed
        rows = " / ".join(f"{count:,}" for count in seed.rows)
        print(f"init: data.split.seed {seed.seed}, whose splits of so few rows come closest to the shares: {rows}")
    text = edit_yaml(PARAMS.read_text(encoding="utf-8"), values, COMMENTS)
    if dry_run:
        return
    with saying_that_nothing_is_written():
        if not yes and not typer.confirm("Write params.yaml and prepare the data?", default=True):
            print("init: nothing was written")
            raise typer.Exit(1)
    write(file, target, text, *differences(former, values))
    prepare_and_validate()
    if target.stat().st_size > LARGE:
        print(f"init: {target} is large. Keep it in DVC, not in Git: dvc add {target}")
    print("Next: dvc repro")


def is_terminal() -> bool:
    return sys.stdin.isatty()


@contextmanager
def saying_that_nothing_is_written() -> Iterator[None]:
    """Say after Ctrl-C or Ctrl-D at a question that nothing was written. The exit status is then 130."""
    try:
        yield
    except typer.Abort:
        print("\ninit: nothing was written")
        raise typer.Exit(130) from None


def place_for(file: Path) -> Path:
    """Return the path of a file in data/raw. Raises FinetuneError if another file has that path."""
    if file.resolve().is_relative_to(RAW.resolve()):
        return RAW / file.resolve().relative_to(RAW.resolve())
    target = RAW / file.name
    if target.exists() and not filecmp.cmp(file, target, shallow=False):
        raise FinetuneError(
            f"{target} exists already, with other content than {file}. Nothing was written.",
            f"Rename {file}, or remove {target}.",
        )
    return target


def proposal_for(
    file: Path,
    sheet: str | None,
    reading: dict[str, Any],
    choices: "Choices",
    former: dict[str, Any],
    interactive: bool,
) -> "Proposal":
    """Show the file, and return the settings for it: those that the user chose, else the proposed ones."""
    from finetune.data.alike_classes import alike_classes
    from finetune.data.file_look import look_at
    from finetune.data.missing_header import name_like_a_cell
    from finetune.data.propose_settings import propose
    from finetune.terminal.progress import progress_bar, say

    count = token_count(former)
    with progress_bar("init") as progress:
        look = look_at(file, sheet, choices.as_columns, progress, choices.answer == "answer", reading)
    show_file(look)
    if name := name_like_a_cell(look):
        say(
            f"warning: the first line of {file} looks like a row, not like the names of its columns:"
            f" {shortened(name)!r}. If it is a row, write the names above it."
        )
    if interactive:
        choices = ask(look, choices, lambda chosen: propose(look, chosen, count))
    proposal = propose(look, choices, count)
    show_proposal(proposal)
    for warning in alike_classes(proposal.labels):
        say(f"warning: {warning}")
    return proposal


def token_count(former: dict[str, Any]) -> Callable[[str], int]:
    """Return a function from a text to about its number of tokens for the project's base."""
    from finetune.data.token_counts import length_in
    from finetune.pricing.catalogue import look_up

    provider, train = former.get("provider") or {}, former.get("train") or {}
    base = look_up(str(train.get("base")), str(provider.get("name")))
    length = length_in(base.encoding)
    if base.tokens_exact:
        return length
    # Another tokenizer may need twice as many, or a token for each digit, and for each byte of other alphabets.
    return lambda text: max(2 * length(text), sum(map(str.isdecimal, text)) + bytes_of_other_alphabets(text))


def bytes_of_other_alphabets(text: str) -> int:
    return sum(len(letter.encode("utf-8", "surrogatepass")) for letter in text if not letter.isascii())


def write(file: Path, target: Path, text: str, written: list[str], removed: list[str]) -> None:
    """Copy the file to its place, write params.yaml, and print both."""
    from finetune.core.disk import write_lines, write_text
    from finetune.core.paths import PARAMS

    if not target.exists():
        with open(file, "rb") as content:
            write_lines(target, content)
        print(f"init: copied {file} to {target}")
    write_text(PARAMS, text)
    print(f"init: wrote params.yaml: {', '.join(written) or 'nothing has changed'}")
    if removed:
        print(f"init: removed, because they do not belong to these data: {', '.join(removed)}")


def prepare_and_validate() -> None:
    """Run the stages prepare and validate. Their errors say that params.yaml is written."""
    try:
        pipeline.prepare()
        pipeline.validate()
    except FinetuneError as error:
        then = "params.yaml is written. After a correction, run: dvc repro validate"
        raise FinetuneError(
            error.what,
            "\n  → ".join(filter(None, [error.remedy, then])),
        ) from error
