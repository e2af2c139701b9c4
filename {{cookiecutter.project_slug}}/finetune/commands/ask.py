"""`finetune ask`: one question to a model, and its answer."""

import sys
from typing import Annotated

import typer

from finetune.commands.options import AsJson


def ask(
    question: Annotated[str, typer.Argument(help="The question, or - to read it from standard input.")],
    model: Annotated[str, typer.Option(help="tuned, base, or a model's ID.")] = "tuned",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="The maximum length of an answer in tokens. Default: evaluate.max_tokens.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model one question, and print its answer.

    The question is put into data.prompt as `predict` does it. If the prompt has several columns, give a JSON object
    with them. JSON has the model's name and, for classes, `confidence` and the probability of each class.

    Examples: finetune ask "Where is my parcel?" · finetune ask - < mail.txt · finetune ask "hello" --json --model base
    """
    from finetune.asking import one_question
    from finetune.core.params import load_params
    from finetune.terminal.progress import say
    from finetune.terminal.tables import print_json

    text = sys.stdin.buffer.read().decode(errors="replace").strip() if question == "-" else question
    if not text.strip():
        raise typer.BadParameter("a question that is not empty", param_hint="QUESTION")
    params = load_params()
    if max_tokens:
        params = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"max_tokens": max_tokens})})
    found, cut = one_question.ask(params, text, model)
    if as_json:
        print_json(found)
    else:
        typer.echo(found["answer"])
    if cut:
        say("ask: warning: the answer was cut at its maximum length. Set --max-tokens higher.")
