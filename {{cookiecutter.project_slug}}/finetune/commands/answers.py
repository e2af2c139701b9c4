"""`finetune predict` and `chat`: answers of the models, for a file of rows or line by line."""

import io
import json
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from finetune.provider.answers import Answer
    from finetune.stages.chat import Conversation

NARROW = 40  # letters of a terminal's width for each model, under which the answers stand one below another
HELP = """/system TEXT  ask with another system prompt; without TEXT it is shown
/reset        forget the conversation
/quit         end, as Ctrl-D does; Ctrl-C stops waiting for an answer"""


def predict(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="Rows in CSV, TSV, XLSX, JSON, JSON Lines, Parquet or .gz."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A .csv or .jsonl file, or - for JSON Lines on standard output; left out, FILE's name with"
            " .predicted.csv (for tables) or .predicted.jsonl, in this folder.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="tuned, base, or a model's ID.")] = "tuned",
) -> None:
    """Ask a model the rows of a file, and write each row with its answer, or with why there is none.

    A row needs the columns that data.prompt asks by, not the answer's; or it has messages.

    A run that was stopped goes on where it was. The exit status is 1 if no row was answered.

    Examples: finetune predict new.csv · finetune predict new.jsonl -o answers.csv --model base
    """
    from finetune.params import load_params
    from finetune.report.progress import say
    from finetune.stages import predict as stage

    target = Path(output) if output else stage.output_for(file)
    if output != "-" and target.suffix.lower() not in (".csv", ".jsonl"):
        raise typer.BadParameter("a name that ends with .csv or .jsonl, or -", param_hint="--output")
    if target.resolve() == file.resolve():
        raise typer.BadParameter("another file than FILE", param_hint="--output")
    try:
        done = stage.run(load_params(), file, model)
    except KeyboardInterrupt:
        say("predict: stopped; what was answered is kept, and the same command goes on from there")
        raise
    if output == "-":
        for row in done.rows:
            typer.echo(json.dumps(row, ensure_ascii=False).encode())
    else:
        stage.write(target, done.rows)
        print(f"predict: {len(done.rows) - len(done.failed)} answers of {done.model} in {target}")
    for number, why in list(done.failed.items())[:1]:
        say(f"predict: {len(done.failed)} of {len(done.rows)} rows have no answer; the first, row {number}: {why}")


def chat(
    model: Annotated[
        list[str] | None, typer.Option(help="tuned, base, or a model's ID; repeatable. Left out: base and tuned.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The longest answer; left out, evaluate.max_tokens.")
    ] = None,
) -> None:
    """Talk to base and tuned model side by side, under the project's system prompt; /help says what else it takes.

    Examples: finetune chat --max-tokens 200 · finetune chat --model tuned · echo hello | finetune chat
    """
    from rich.console import Console

    from finetune.params import load_params
    from finetune.provider.connect import connect
    from finetune.stages import chat as stage

    params, console = load_params(), Console(markup=False, highlight=False)
    conversation = stage.begin(params, model or ["base", "tuned"])
    with connect(params.provider) as connection:
        if sys.stdin.isatty():
            greet(console, conversation)
        for typed in lines():
            word, _, rest = typed.partition(" ")
            if word == "/quit":
                break
            if word.startswith("/"):
                console.print(obeyed(conversation, word, rest.strip()), style="dim")
            elif typed:
                try:
                    with console.status("waiting for " + " and ".join(conversation.models)):
                        answers = stage.say(conversation, connection, params, typed, max_tokens)
                except KeyboardInterrupt:
                    if not sys.stdin.isatty():
                        raise
                    console.print("stopped waiting", style="dim")
                    continue
                show_answers(console, answers)


def greet(console: "Console", conversation: "Conversation") -> None:
    for name, model in conversation.models.items():
        console.print(f"{name}: {model}", style="dim")
    if conversation.system:
        console.print(f"system: {conversation.system}", style="dim")
    console.print("/help says what else can be typed, /quit ends\n", style="dim")


def lines() -> Iterator[str]:
    """What is typed, or what comes through a pipe, line by line."""
    if not sys.stdin.isatty():
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import_module("readline")  # lines can then be edited, and come back with the arrow keys
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n/quit ends")


def obeyed(conversation: "Conversation", word: str, rest: str) -> str:
    """Do what a line that begins with a slash says, and say what was done."""
    if word == "/reset":
        conversation.turns.clear()
        return "the conversation is forgotten"
    if word == "/system":
        conversation.system = rest or conversation.system
        return f"system: {conversation.system or '(none)'}"
    return HELP if word == "/help" else f"there is no {word}\n{HELP}"


def show_answers(console: "Console", answers: Mapping[str, "Answer"]) -> None:
    """The answers beside each other where the terminal is wide enough, else below each other."""
    from rich.table import Table

    if console.is_terminal and len(answers) > 1 and console.width >= NARROW * len(answers):
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 4, 0, 0))
        for name in answers:
            table.add_column(name, ratio=1, overflow="fold", header_style="bold cyan")
        table.add_row(*map(words_of, answers.values()))
        table.add_row(*(taken_by(answer) for answer in answers.values()), style="dim")
        console.print(table)
        console.print()
    else:
        for name, answer in answers.items():
            console.print(name, style="bold cyan")
            console.print(words_of(answer), soft_wrap=not console.is_terminal)
            console.print(taken_by(answer) + "\n" * bool(taken_by(answer)), style="dim")


def words_of(answer: "Answer") -> "Text":
    """An answer's text, less what would steer the terminal."""
    from rich.text import Text

    text = answer.error or answer.text or "(nothing)"
    shown = "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")
    return Text(shown, style="red" if answer.error else "")


def taken_by(answer: "Answer") -> str:
    """What an answer took."""
    tokens = (answer.prompt_tokens, answer.completion_tokens)
    counts = "" if None in tokens else f"{tokens[0]} tokens in, {tokens[1]} out"
    return ", ".join(filter(None, [counts, f"{answer.seconds:.2f} s" if answer.seconds is not None else ""]))
