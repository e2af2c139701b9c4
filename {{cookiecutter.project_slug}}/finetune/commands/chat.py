"""`finetune chat`: a conversation with one model or several, side by side."""

import io
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from finetune.asking.conversation import Conversation
    from finetune.provider.answer_parser import Answer

ANSWER_WIDTH = 40  # letters that each answer needs on a line; in a narrower terminal, answers are below each other
BLOCK = '"""'  # begins and ends a message of several lines, as in other chat programs
HELP = """/system TEXT  set the system prompt; without TEXT, show it
/reset        forget the conversation
/quit         end the chat (or Ctrl-D); Ctrl-C stops waiting for an answer
\"\"\"           begin a message of several lines; another one ends it. Pasted lines are one message"""


def chat(
    model: Annotated[
        list[str] | None, typer.Option(help="tuned, base, or a model's ID; repeatable. Default: base and tuned.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The maximum length of an answer in tokens. Default: evaluate.max_tokens.")
    ] = None,
) -> None:
    """Chat with base and tuned model side by side.

    It begins with the project's system prompt. Type /help for the commands of the chat, and \"\"\" before and after a
    message of several lines.

    Examples: finetune chat --max-tokens 200 · finetune chat --model tuned · echo hello | finetune chat
    """
    from rich.console import Console

    from finetune.asking.conversation import begin, send
    from finetune.core.params import load_params
    from finetune.project.kept_models import connect_with

    params, console = load_params(), Console(markup=False, highlight=False)
    conversation = begin(params, model or ["base", "tuned"])
    with connect_with(params, *conversation.models.values()) as connection:
        if sys.stdin.isatty():
            greet(console, conversation)
        for typed, is_message in messages(reader()):
            word, _, rest = typed.partition(" ")
            if word == "/quit" and not is_message:
                break
            if word.startswith("/") and not is_message:
                console.print(run_command(conversation, word, rest.strip()), style="dim")
            elif typed:
                try:
                    with console.status("waiting for " + " and ".join(conversation.models)):
                        answers = send(conversation, connection, params, typed, max_tokens)
                except KeyboardInterrupt:
                    if not sys.stdin.isatty():
                        raise
                    console.print("stopped waiting", style="dim")
                    continue
                show_answers(console, answers)


def greet(console: "Console", conversation: "Conversation") -> None:
    """Print the models, the system prompt and how to get help."""
    for name, model in conversation.models.items():
        console.print(f"{name}: {model}", style="dim")
    if conversation.system:
        console.print(f"system: {conversation.system}", style="dim")
    console.print("Type /help for the commands of the chat, /quit to end it.\n", style="dim")


def reader() -> Callable[[str], str]:
    """Return a function that shows a prompt and reads a line, from the keyboard or from a pipe.

    Lines that are pasted together are one, with line breaks. It raises EOFError at the end.
    """
    if sys.stdin.isatty():
        with suppress(ImportError):
            readline = import_module("readline")  # lets the user edit a line, and recall earlier ones
            readline.parse_and_bind("set enable-bracketed-paste on")  # without it, each pasted line would be sent alone
        return input
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")

    def read(_: str) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\r\n")

    return read


def messages(read: Callable[[str], str]) -> Iterator[tuple[str, bool]]:
    """Yield what is typed, and whether it is a message for sure: a line that begins with a slash may be a command.

    A line that begins with three quotes begins a message of several lines, which ends with three quotes.
    """
    block: list[str] | None = None
    while True:
        try:
            line = read("> " if block is None else "... ")
        except EOFError:
            break
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            print("\nType /quit to end the chat." if block is None else "\nThe message is not sent.")
            block = None
            continue
        if block is None and not line.lstrip().startswith(BLOCK):
            text = line.strip()
            yield text, "\n" in text and not text.startswith("/system ")
            continue
        text = line if block is not None else line.lstrip().removeprefix(BLOCK)
        is_end = text.rstrip().endswith(BLOCK)
        block = [*(block or []), text.rstrip().removesuffix(BLOCK) if is_end else text]
        if is_end:
            yield "\n".join(block).strip(), True
            block = None
    if sys.stdin.isatty():
        print()
    if block is not None:  # the input ended before the quotes
        yield "\n".join(block).strip(), True


def run_command(conversation: "Conversation", word: str, rest: str) -> str:
    """Run a command of the chat, and return the text to show."""
    if word == "/reset":
        conversation.turns.clear()
        return "conversation forgotten"
    if word == "/system":
        conversation.system = rest or conversation.system
        return f"system: {conversation.system or '(none)'}"
    return HELP if word == "/help" else f"unknown command {word}\n{HELP}"


def show_answers(console: "Console", answers: Mapping[str, "Answer"]) -> None:
    """Print the answers side by side if the terminal is wide enough, else below each other."""
    from rich.table import Table

    if console.is_terminal and len(answers) > 1 and console.width >= ANSWER_WIDTH * len(answers):
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 4, 0, 0))
        for name in answers:
            table.add_column(name, ratio=1, overflow="fold", header_style="bold cyan")
        table.add_row(*map(answer_text, answers.values()))
        table.add_row(*(usage_text(answer) for answer in answers.values()), style="dim")
        console.print(table)
        console.print()
    else:
        for name, answer in answers.items():
            console.print(name, style="bold cyan")
            console.print(answer_text(answer), soft_wrap=not console.is_terminal)
            console.print(usage_text(answer) + "\n" * bool(usage_text(answer)), style="dim")


def answer_text(answer: "Answer") -> "Text":
    """Return an answer's text without characters that control the terminal."""
    from rich.text import Text

    text = answer.error or answer.text or "(nothing)"
    shown = "".join(letter for letter in text if letter in "\n\t" or unicodedata.category(letter) != "Cc")
    return Text(shown, style="red" if answer.error else "")


def usage_text(answer: "Answer") -> str:
    """Return the tokens and seconds of an answer as text."""
    tokens = (answer.prompt_tokens, answer.completion_tokens)
    counts = "" if None in tokens else f"{tokens[0]} tokens in, {tokens[1]} out"
    return ", ".join(filter(None, [counts, f"{answer.seconds:.2f} s" if answer.seconds is not None else ""]))
