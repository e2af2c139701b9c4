"""`finetune chat`: all models get the same message, each has its own history, and an error does not end the chat."""

import io
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import completion, refusal, server
from rich.console import Console
from test_predict import PROMPT, Body, Provider, question_of, write_params
from typer.testing import CliRunner

from finetune.cli import app
from finetune.commands.chat import show_answers
from finetune.core.disk import write_json, write_jsonl
from finetune.core.paths import MODEL, PREPARED, PREPARED_REPORT
from finetune.data.prompts import fingerprint_of
from finetune.provider.answer_parser import Answer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    """Yield the provider of a project in the current folder. It answers with the model's name and the turn's number."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_API_KEY", "a-key-of-the-test")
    found = Provider()
    found.reply = lambda body: f"{body['model']} {sum(turn['role'] == 'user' for turn in body['messages'])}"
    with server(found.answer) as address:
        write_json(MODEL, {"model": "ft", "prompt": fingerprint_of(PROMPT)})
        write_params(address=address)
        yield found


def chat(typed: str, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["chat", *arguments], input=typed)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def conversations_with(provider: Provider, model: str) -> list[list[tuple[str, str]]]:
    """Return the conversations that a model was sent, in their order."""
    return [
        [(turn["role"], turn["content"]) for turn in body["messages"]]
        for body in provider.asked
        if body["model"] == model
    ]


def test_all_models_answer_at_once_and_each_keeps_its_own_history(provider: Provider) -> None:
    together = threading.Barrier(2, timeout=10)  # fails unless both are asked before one has answered
    usual_reply = provider.reply
    provider.reply = lambda body: (together.wait(), usual_reply(body))[1]
    output = chat("hello\n\nand then?\n")
    shown = [line for line in output.splitlines() if line and "10 tokens in, 2 out, " not in line]
    assert shown == ["base", "the-base 1", "tuned", "ft 1", "base", "the-base 2", "tuned", "ft 2"]
    assert output.count("10 tokens in, 2 out, ") == 4
    assert "> " not in output
    assert conversations_with(provider, "ft")[1] == [
        ("system", "One word."),
        ("user", "hello"),
        ("assistant", "ft 1"),
        ("user", "and then?"),
    ]
    assert conversations_with(provider, "the-base")[1][2] == ("assistant", "the-base 1")


def test_commands_reset_the_conversation_change_the_system_prompt_and_quit(provider: Provider) -> None:
    output = chat("one\n/reset\ntwo\n/system Be curt.\nthree\n/system\n/what\n/quit\nfour\n", "--model", "tuned")
    assert conversations_with(provider, "ft") == [
        [("system", "One word."), ("user", "one")],
        [("system", "One word."), ("user", "two")],
        [("system", "Be curt."), ("user", "two"), ("assistant", "ft 1"), ("user", "three")],
    ]
    assert not conversations_with(provider, "the-base")
    assert output.count("system: Be curt.") == 2
    assert "unknown command /what" in output
    assert "/reset  " in output


def test_three_quotes_enclose_a_message_of_several_lines(provider: Provider) -> None:
    block = '"""\nDear team,\n\n/reset\n  where is it?\n"""\n'
    output = chat(block + '"""one line"""\n  """/etc/hosts\nis full"""\n/quit\n', "--model", "tuned")
    asked = [conversation[-1][1] for conversation in conversations_with(provider, "ft")]
    assert asked == ["Dear team,\n\n/reset\n  where is it?", "one line", "/etc/hosts\nis full"]
    assert "forgotten" not in output


def test_a_message_whose_quotes_are_not_closed_is_sent_at_the_end_of_the_input(provider: Provider) -> None:
    chat('"""\none\ntwo\n', "--model", "tuned")
    assert conversations_with(provider, "ft")[0][-1] == ("user", "one\ntwo")


def test_an_error_is_shown_and_the_chat_continues_without_it(provider: Provider) -> None:
    def reply(body: Body) -> object:
        refused = question_of(body) == "bad" and body["model"] == "ft"
        return (400, refusal("context_length_exceeded", "Too long.")) if refused else "fine"

    provider.reply = reply
    output = chat("bad\ngood\n")
    assert "answered 400: Too long." in output
    assert output.count("fine") == 3
    assert conversations_with(provider, "ft")[1] == [("system", "One word."), ("user", "good")]
    assert ("user", "bad") in conversations_with(provider, "the-base")[1]


@pytest.mark.parametrize(
    ("user", "sent"),
    [("Message: {message}", "Message: hi {x}"), ("{message} {more}", "hi {x}"), ("no column", "hi {x}")],
)
def test_typed_text_replaces_the_only_column_of_the_prompt(provider: Provider, user: str, sent: str) -> None:
    write_params({"prompt": {**PROMPT, "system": "Of {day}.", "user": user}})
    chat("hi {x}\n", "--max-tokens", "77", "--model", "a", "--model", "b")
    for model in ("a", "b"):
        assert conversations_with(provider, model) == [[("system", "Of {day}."), ("user", sent)]]
    assert {body["max_tokens"] for body in provider.asked} == {77}


def test_without_a_template_the_first_example_gives_the_system_prompt(provider: Provider) -> None:
    write_params({})
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    write_jsonl(PREPARED / "train.jsonl", [{"messages": [{"role": "system", "content": "As trained."}, *turns]}])
    chat("hi\n", "--model", "m")
    write_jsonl(PREPARED / "train.jsonl", [{"messages": turns}])
    chat("hi\n", "--model", "m")
    assert conversations_with(provider, "m") == [[("system", "As trained."), ("user", "hi")], [("user", "hi")]]


def test_codes_are_shown_with_their_class_and_sent_as_codes(provider: Provider) -> None:
    labels = ["delivery", "billing"]
    write_params({"prompt": {**PROMPT, "system": "Codes: {codes}"}, "labels": labels, "codes": True})
    write_json(PREPARED_REPORT, {"codes": {"delivery": "0", "billing": "1"}})
    provider.reply = lambda body: "1"
    assert "1 = billing" in chat("hi\nho\n", "--model", "m")
    assert conversations_with(provider, "m")[1][:3] == [
        ("system", "Codes: 0 = delivery, 1 = billing"),
        ("user", "hi"),
        ("assistant", "1"),
    ]


def test_completions_are_asked_without_history(provider: Provider) -> None:
    write_params({"prompt": PROMPT, "target": "completion"})
    write_json(PREPARED_REPORT, {"completion": {"separator": " ->", "lead": " ", "stop": "\n"}})
    provider.reply = lambda body: (200, {**completion(""), "choices": [{"index": 0, "text": " yes"}]})
    assert chat("hi\nho\n", "--model", "m").count("\nyes\n") == 2
    assert [body["prompt"] for body in provider.asked] == ["hi ->", "ho ->"]
    assert {body["stop"] for body in provider.asked} == {"\n"}


def test_answers_are_side_by_side_in_a_wide_terminal() -> None:
    def shown(width: int) -> list[str]:
        console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, markup=False)
        show_answers(console, {"base": Answer("long " * 20, 12, 3, 0.5), "tuned": Answer("\x1b[31m[b]short\x07")})
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().splitlines()

    wide, narrow = shown(100), shown(60)
    assert wide[0].split() == ["base", "tuned"]
    assert "[31m[b]short" in wide[1]  # escape sequences and markup have no effect
    assert narrow[0].strip() == "base"
    assert "tuned" in [line.strip() for line in narrow]
    assert all(len(line) <= 60 and "\x1b[31m" not in line and "\x07" not in line for line in narrow)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_terminal_ctrl_c_stops_waiting_and_ctrl_d_ends_the_chat(provider: Provider) -> None:
    enough = threading.Event()
    provider.reply = lambda body: "late" if question_of(body) == "slow" and not enough.wait(120) else "soon"
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "finetune", "chat", "--model", "m"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        # A shell makes programs in the background ignore Ctrl-C; in a terminal they do not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    output = b""

    def until(text: bytes, interrupted: bool = False) -> None:
        nonlocal output
        seen, end, again = b"", time.monotonic() + 60, time.monotonic()
        while text not in seen:
            assert time.monotonic() < end, output + seen
            if interrupted and time.monotonic() > again:
                # As the terminal does at Ctrl-C. Python's readline misses a signal between its prompt and its wait.
                process.send_signal(signal.SIGINT)
                again += 5
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536)
        output += seen

    try:
        until(b"> ")
        os.write(ours, b"slow\n")
        until(b"waiting for m")
        until(b"> ", interrupted=True)
        os.write(ours, b"quick\n")
        until(b"> ")
        os.write(ours, b"\x1b[200~pasted\n/reset\ntogether\x1b[201~\n")  # as a terminal sends what is pasted
        until(b"> ")
        os.write(ours, b'"""a mistake\n')
        until(b"... ")
        until(b"> ", interrupted=True)
        os.write(ours, b'"""two\n')
        until(b"... ")
        os.write(ours, b'lines"""\n')
        until(b"> ")
        os.write(ours, b"\x04")
        assert process.wait(60) == 0
    finally:
        enough.set()
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert b"stopped waiting" in output
    assert b"soon" in output
    assert b"Traceback" not in output
    asked = [conversation[-1][1] for conversation in conversations_with(provider, "m")]
    assert asked[-2:] == ["pasted\n/reset\ntogether", "two\nlines"]
    assert "a mistake" not in "".join(asked)
    # The interrupted question is not in the history. Its request may arrive late, so any place in the list is right.
    assert [("system", "One word."), ("user", "quick")] in conversations_with(provider, "m")
