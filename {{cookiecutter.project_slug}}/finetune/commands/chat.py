"""`finetune chat`: a conversation with one model or several, side by side."""

import io
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from finetune.asking.conversation import Conversation
    from finetune.provider.answer_parser import Answer

NARROW = 40  # letters of a terminal's width for each model, under which the answers stand one below another
HELP = """/system TEXT  ask with another system prompt; without TEXT it is shown
/reset        forget the conversation
/quit         end, as Ctrl-D does; Ctrl-C stops waiting for an answer"""


def chat(
    model: Annotated[
        list[str] | None, typer.Option(help="tuned, base, or a model's ID; repeatable. Default: base and tuned.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The maximum length of an answer in tokens. Default: evaluate.max_tokens.")
    ] = None,
) -> None:
    """Chat with base and tuned model side by side.

    The project's system prompt is used. /help lists the commands of the chat.

    Examples: finetune chat --max-tokens 200 · finetune chat --model tuned · echo hello | finetune chat
    """
    from rich.console import Console

    from finetune.asking import conversation as stage
    from finetune.core.params import load_params
    from finetune.provider.connect import connect

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
