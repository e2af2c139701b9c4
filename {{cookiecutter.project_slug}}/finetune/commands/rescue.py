"""`finetune rescue`: save fine-tuned models and what they answer, before a provider shuts them down."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from finetune.commands.options import AsJson, Yes
from finetune.terminal.tables import print_json, print_table

app = typer.Typer(help="Save fine-tuned models' files and answers before a shutdown.", no_args_is_help=True)


@app.command("list")
def list_fine_tunes(as_json: AsJson = False) -> None:
    """List the account's fine-tuned models, the days until they are shut down, and what of them is saved here.

    Those that end first are at the top. --json has the result files too.

    Example: finetune rescue list --json
    """
    import datetime
    import shlex

    from finetune.core.params import load_params
    from finetune.provider.connect import connect
    from finetune.rescue.account import fine_tunes, save_next
    from finetune.rescue.save import ROOT
    from finetune.terminal.rescue_list import row_of, summary

    with connect(load_params().provider) as connection:
        found = fine_tunes(connection, datetime.date.today(), ROOT)
        deploys = bool(connection.profile.deploys)
    if as_json:
        print_json(found)
        return
    if not found:
        print("The provider lists no job with a fine-tuned model. For those of another project, set its key.")
        return
    print_table(
        ["days left", "model, job and hyperparameters", "data", "saved"], [row_of(one, deploys) for one in found]
    )
    print(f"\n{summary(found, deploys)}")
    if one := save_next(found, deploys):
        print(f"Next: finetune rescue save {shlex.quote(one['model'])}")


@app.command("save")
def save(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The name or ID of a model, a checkpoint, or a job.")],
    rows: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Rows to ask, as for predict. By default: the training data."),
    ] = None,
    usd: Annotated[float | None, typer.Option(min=0, help="The most that its answers may cost.")] = None,
    yes: Yes = False,
) -> None:
    """Save a model's job, data and answers in data/rescued/. The price is shown before the first question.

    Downloads cost nothing. Each row is asked at temperature 0, with log-probabilities and evaluate.max_tokens. With
    --usd, only the first rows are asked whose price, at most, is within it. After an interruption, the same command
    continues and asks nothing twice.

    Examples: finetune rescue save ft:base:org::abc123 --usd 5 · finetune rescue save ft:base:org::abc123 --rows new.csv
    """
    from finetune.core.errors import FinetuneError
    from finetune.core.params import load_params
    from finetune.provider.connect import connect
    from finetune.provider.locks import exclusive_lock
    from finetune.rescue.recording import record, record_kept
    from finetune.rescue.save import find, name_to_ask, plan, questions, save_files
    from finetune.terminal.progress import say

    params = load_params()

    def waits() -> None:
        say(f"rescue: waiting for another run that saves {model}.")

    with connect(params.provider) as connection:
        job, model = find(connection, model, say)
        with exclusive_lock("rescue", connection.identity, model, waits=waits):
            files = save_files(connection, job, model, say)
            asked = questions(params, files, rows, say)
            total, answered = len(asked.prompts), len(asked.prompts) - len(asked.todo)
            for reason, count in asked.left_out.items():
                say(f"rescue: rows left out: {count:,} ({reason}).")
            try:
                name = name_to_ask(connection, params, files) if asked.todo else model
            except FinetuneError:
                record_kept(connection, params, model, plan(connection, params, files, asked, rows, None), say)
                raise
            found = plan(connection, params, files, asked, rows, usd)
            if answered:
                say(f"rescue: {answered:,} of {total:,} questions are answered already.")
            if found.todo:
                price = "an unknown amount" if found.new_usd is None else f"at most ${found.new_usd:.4f}"
                say(f"rescue: asking {len(found.todo):,} of {total:,} questions costs {price}.")
            elif asked.todo and not answered:
                raise FinetuneError(
                    f"--usd {usd:g} does not pay for one question; all {total:,} cost at most ${found.all_usd:.4f}.",
                    f"Give a higher limit. What costs nothing is in {files.folder}.",
                )
            if found.todo and not yes and usd is None and found.new_usd != 0:
                typer.confirm("Ask them?", abort=True)
            saved = record(connection, params, name, found, say)
    if found.left:
        say(f"rescue: --usd left out {found.left:,} questions; all cost at most ${found.all_usd:.4f}.")
    if saved["cut"]:
        say(
            f"rescue: warning: {saved['cut']:,} answers were cut at evaluate.max_tokens in params.yaml. With a higher"
            " value, the same command asks only these again."
        )
    if saved["refused"]:
        say(f"rescue: warning: {saved['refused']:,} questions were refused; see `error` in answers{found.name}.jsonl.")
    cost = "" if saved["usd"] is None else f" for ${saved['usd']:.4f}"
    print(f"rescue: {saved['asked']:,} answers of {model} in {files.folder}{cost}. Next: dvc add {files.folder}")


@app.command("into")
def into(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the new project.")],
    provider: Annotated[str, typer.Option(help="The new provider.name.")],
    base: Annotated[str, typer.Option(help="The new train.base.")],
    base_url: Annotated[str | None, typer.Option(help="The new provider.base_url.")] = None,
    answers: Annotated[
        Literal["original", "model"],
        typer.Option(help="What to train on: the answers of the original data, or the rescued model's own."),
    ] = "original",
    model: Annotated[str | None, typer.Option(help="The saved model, if there are several.")] = None,
) -> None:
    """Make a project that trains a successor of a saved model, and compares it with that model's recorded answers.

    The project has the code of this one and the saved rows as data. Its evaluation has a column `rescued`, and the gate
    rescued.kept: is the successor as good? No recorded answer is asked again.

    Example: finetune rescue into ../successor --provider local --base SmolLM2-135M-Instruct
    """
    import shlex

    from finetune.core.params import checked, read_values
    from finetune.rescue.into import make_project, read_saved
    from finetune.rescue.questions import replay_questions
    from finetune.terminal.progress import say

    former = read_values()
    found = read_saved(model, answers, replay_questions(checked(former), say))
    print(f"rescue: {found.summary()}")
    for line in make_project(folder, former, found, {"name": provider, "base_url": base_url}, base):
        say(f"rescue: {line}")
    start = f"cd {shlex.quote(str(folder))} && make setup && git add . && git commit -m Start && dvc repro"
    print(f"rescue: made the project {folder}. Next: {start}")
