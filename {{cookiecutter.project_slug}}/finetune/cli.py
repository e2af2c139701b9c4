"""The command `finetune`: the stages of `dvc.yaml`, and what one does around them. It parses, calls and prints."""

import os
import secrets
import sys
from contextlib import nullcontext
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from finetune.commands import files, jobs, models
from finetune.commands.answers import chat, predict
from finetune.commands.doctor import doctor
from finetune.commands.history import compare, print_scores, promote, show
from finetune.errors import FinetuneError
from finetune.report.tables import print_json, print_table

app = typer.Typer(
    help="Fine-tune a language model: `dvc repro` runs the stages in their order, each of these runs one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(files.app, name="files")
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command; what a user can mend is told in a sentence on standard error, with exit status 1."""
    try:
        app()
    except FinetuneError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without permission: the machine's, not the program's
        print(f"error: {error}\n  → Mend that, then run the same command again.", file=sys.stderr)
        sys.exit(1)


@app.command()
def prepare() -> None:
    """Turn raw data into chat examples in three splits."""
    from finetune.params import load_params
    from finetune.report.progress import progress_bar
    from finetune.stages import prepare as stage

    params = load_params()
    with progress_bar("prepare") as progress:
        report = stage.run(params, progress=progress)
    unsaid = ("source", "prompt", "codes", "completion", "abstain")
    source, _, codes, frame, abstain = (report.pop(key) for key in unsaid)
    for file, note in source.items() if all(isinstance(note, dict) for note in source.values()) else [("", source)]:
        told = (f"{key} {value}" if key != "format" else value for key, value in note.items())
        print(f"prepare: {file and file + ' '}read as {', '.join(told)}")
    print("prepare: " + ", ".join(f"{value} {key.replace('_', ' ')}" for key, value in report.items()))
    if frame:
        print("prepare: as completions: " + ", ".join(f"{key} {text!r}" for key, text in frame.items()))
    if codes:
        print("prepare: answers as codes of one token: " + ", ".join(f"{v} {k}" for k, v in codes.items()))
    if abstain:
        print(f"prepare: the answer where the context does not tell: {abstain!r}")


@app.command()
def validate() -> None:
    """Check every example against the rules of the API, and count tokens and cost."""
    from finetune.params import load_params
    from finetune.stages import validate as stage

    report = stage.run(load_params())
    usd = report["train_usd_per_epoch"]
    cost = f"{usd} dollars" if isinstance(usd, str) else f"${usd:.2f}"
    about = "" if report["tokens_exact"] else "about "
    print(f"validate: no mistakes; {about}{report['train_tokens_per_epoch']:,} training tokens an epoch, {cost}")
    print(f"validate: read what will be trained on in {stage.PAGE}")
    if report["warnings"]:
        told = ", ".join(f"{times} {code}" for code, times in report["warnings"].items())
        print(f"warnings: {told}; look at them with: finetune check data/prepared/*.jsonl")


@app.command()
def upload() -> None:
    """Upload the training and validation files, each content once."""
    from finetune.params import load_params
    from finetune.stages import upload as stage

    record = stage.run(load_params())
    print("upload: " + ", ".join(f"{split} is {file['id']}" for split, file in record.items()))


@app.command()
def train(
    again: Annotated[bool, typer.Option("--again", help="Create a new job even where the same one failed.")] = False,
) -> None:
    """Train by the one job of these data and parameters: found if it exists, created if not."""
    from finetune.params import load_params
    from finetune.stages import train as stage

    record = stage.run(load_params(), again)
    print(f"train: {record['model']}")


@app.command()
def baseline() -> None:
    """Ask the base model the test questions."""
    from finetune.params import load_params
    from finetune.stages import baseline as stage

    print(f"baseline: {stage.run(load_params())} answers")


@app.command()
def evaluate() -> None:
    """Ask the tuned model the test questions, and score it against the base."""
    from finetune.params import load_params
    from finetune.stages import evaluate as stage

    report = stage.run(load_params())
    print_scores(report)
    print(f"{report['n']} test rows; go on with: dvc repro, or look at them with: dvc plots show")


@app.command()
def report() -> None:
    """Make the page and its short form for a pull request, from what the other stages left."""
    from finetune.stages import report as stage

    print(f"report: {stage.run()}; look at {stage.PAGE}")


@app.command()
def deploy(
    remove: Annotated[bool, typer.Option("--remove", help="Take it away, so that it costs no more.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Have the fine-tuned model answer, at providers where training alone does not (Azure, Nebius); it may cost.

    Examples: finetune deploy, then: dvc repro · finetune deploy --remove
    """
    from finetune.params import load_params
    from finetune.provider.profiles import PROFILES
    from finetune.stages import deploy as stage

    params = load_params()
    costs = PROFILES[params.provider.name].deploys
    if costs is None:
        raise FinetuneError(
            f"At {params.provider.name!r} a fine-tuned model answers as soon as it is trained.", "Go on with: dvc repro"
        )
    if remove:
        print(f"deploy: {stage.remove(params)} is taken away")
        return
    if not yes:
        typer.confirm(f"Deploying costs {costs}. Go on?", abort=True)
    print(f"deploy: ask for it as {stage.run(params)['name']}; go on with: dvc repro")


class Method(str, Enum):
    supervised = "supervised"
    dpo = "dpo"
    reinforcement = "reinforcement"


class Format(str, Enum):
    text = "text"
    json = "json"
    github = "github"


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Training files in JSON Lines.")],
    base: Annotated[
        str | None, typer.Option(help="The base model: examples over its training context are found.")
    ] = None,
    method: Annotated[
        Method | None, typer.Option(help="What the files shall train; left out, their first example tells.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Another split, with which the files may share no question; repeatable.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="text for people, json for programs, github for annotations.")
    ] = Format.text,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write a repaired copy beside each file, say each change, and check the copy.")
    ] = False,
) -> None:
    """Find every mistake in training files, with its line and how to mend it; exit status 1 if there are errors.

    Examples: finetune check train.jsonl --against test.jsonl · finetune check *.jsonl --format github
    """
    from finetune.data import between, findings, repair
    from finetune.provider.catalogue import look_up
    from finetune.report.progress import progress_bar

    known = look_up(base, "openai") if base else None
    if fix:
        files = [repaired(file, *repair.repair(file)) for file in files]
    with progress_bar("check") if sys.stderr.isatty() else nullcontext() as progress:
        report = between.check(
            files,
            against or (),
            method=method.value if method else None,
            encoding=known.encoding if known and known.context else None,
            context=known.context if known else None,
            progress=progress,
        )
    told = {Format.text: findings.as_text, Format.json: findings.as_json, Format.github: findings.as_github}[form](
        report
    )
    if told:
        print(told)
    if report["errors"]:
        raise typer.Exit(1)


def repaired(file: Path, target: Path, changes: list[tuple[int, str]]) -> Path:
    """Say on standard error what was mended; the file to go on with comes back."""
    for line, what in changes:
        print(f"{file}{f':{line}' if line else ''}: fixed: {what}", file=sys.stderr)
    print(f"{file}: " + (f"repaired copy in {target}" if changes else "nothing to mend"), file=sys.stderr)
    return target if changes else file


@app.command()
def estimate(
    file: Annotated[Path, typer.Argument(help="A training file in JSON Lines.")],
    base: Annotated[str, typer.Option(help="The base model, or a model fine-tuned from it.")],
    n_epochs: Annotated[str, typer.Option(help="How often the file is passed over: 1 to 50, or auto.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say what a training file would cost at OpenAI, before it is sent; what is not known is "unknown".

    In a project, what its former jobs on this base were billed (reports/ledger.csv) corrects the figures.

    Example: finetune estimate train.jsonl --base gpt-4.1-mini-2025-04-14 --n-epochs 2
    """
    import datetime

    from finetune.data.checks import check_file
    from finetune.data.cost import auto_epochs
    from finetune.data.cost import estimate as cost_of
    from finetune.provider.catalogue import look_up
    from finetune.stages.ledger import learned

    if n_epochs != "auto" and not (n_epochs.isdecimal() and 1 <= int(n_epochs) <= 50):
        raise typer.BadParameter("a number from 1 to 50, or auto", param_hint="--n-epochs")
    known = look_up(base, "openai")
    checked = check_file(file, encoding=known.encoding)
    errors = sum(finding.severity == "error" for finding in checked.findings)
    epochs = int(n_epochs) if n_epochs != "auto" else auto_epochs(len(checked.tokens))
    ratio, seconds = learned("openai", base)
    report = cost_of(checked.tokens.tolist(), epochs, known.context, known.training, seconds or known.seconds, ratio)
    retired = known.retired(datetime.date.today())
    report |= {"retired": retired, "tokens_exact": known.tokens_exact}
    if as_json:
        print_json(report)
    else:
        print_table(["", known.name], [[key.replace("_", " "), value] for key, value in report.items()])
    if retired:
        print(f"{known.name} was retired on {known.shutdown}: this is its last price.", file=sys.stderr)
    if errors:
        print(f"{errors} mistakes were left out of account; see: finetune check {file}", file=sys.stderr)


class Tracker(str, Enum):
    wandb = "wandb"
    mlflow = "mlflow"
    dvclive = "dvclive"


@app.command()
def track(
    tracker: Annotated[Tracker, typer.Argument(help="Who shall show it: Weights & Biases, MLflow or DVCLive.")],
    project: Annotated[
        str | None,
        typer.Option(help="The project of W&B or the experiment of MLflow; left out, the name of this folder."),
    ] = None,
) -> None:
    """Send the record of the fine-tune to a tracker; sent again, it is still one run.

    Examples: finetune track wandb · finetune track mlflow --project support-desk
    """
    from finetune.paths import CURVES, EVALUATION, MODEL
    from finetune.report import trackers

    if project and tracker == Tracker.dvclive:
        raise typer.BadParameter("DVCLive has no projects", param_hint="--project")
    print(f"track: {trackers.send(tracker.value, project, MODEL, CURVES, EVALUATION)}")


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default takes calls of this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Serve the engine in the box to any OpenAI client, until Ctrl-C.

    Its key is FINETUNE_ENGINE_KEY; without one it makes a key up and prints it once.
    """
    from finetune.engine import embedded

    key = os.environ.get("FINETUNE_ENGINE_KEY")
    if not key:
        key = secrets.token_urlsafe(24)
        print(f"The key of this run: {key}", file=sys.stderr)
    print(f"Serving on http://{host}:{port}/v1", file=sys.stderr, flush=True)
    try:
        embedded.serve(host, port, key)
    except OSError as error:
        reason = error.strerror or error
        raise FinetuneError(f"Cannot listen on {host}:{port}: {reason}.", "Choose another with --port.") from error


for command in (predict, chat, show, compare, promote, doctor):
    app.command()(command)

if find_spec("finetune.engine"):  # a project may be generated without it
    app.command()(serve)
