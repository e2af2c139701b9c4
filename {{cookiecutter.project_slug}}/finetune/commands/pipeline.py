"""The stages of `dvc.yaml` as commands: each loads params.yaml, runs its stage and prints a summary."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from finetune.core.errors import FinetuneError

Fresh = Annotated[bool, typer.Option("--fresh", help="Ask and pay again what was answered before.")]


@contextmanager
def with_restore_command(stage: str) -> Iterator[None]:
    """Add to an error how the stage's former outputs come back, which DVC deletes before each run.

    An error of the system, such as a full disk, becomes a FinetuneError. After Ctrl-C, the sentence is printed.
    """
    from finetune.project.restore import how_to_restore

    try:
        yield
    except (FinetuneError, OSError) as error:
        what = error.what if isinstance(error, FinetuneError) else f"The stage {stage} failed: {error}."
        remedy = error.remedy if isinstance(error, FinetuneError) else "Correct this, then run the same command again."
        raise FinetuneError(what, "\n  → ".join(filter(None, [remedy, how_to_restore(stage)]))) from error
    except KeyboardInterrupt:
        if restore := how_to_restore(stage):
            print(f"\n{restore}", file=sys.stderr)
        raise


def prepare() -> None:
    """Turn raw data into chat examples in three splits."""
    from finetune.core.params import load_params
    from finetune.stages import prepare as stage
    from finetune.terminal.progress import progress_bar, say
    from finetune.terminal.summaries import prepare_summary

    with with_restore_command("prepare"), progress_bar("prepare") as progress:
        params = load_params()
        report = stage.run(params, progress=progress, say=say)
    print(prepare_summary(report, params.data))


def validate() -> None:
    """Check every example and every setting, and estimate the cost."""
    from finetune.core.params import load_params
    from finetune.project import budget, ledger
    from finetune.project.notifications import with_secrets
    from finetune.stages import validate as stage
    from finetune.terminal.progress import progress_bar, say
    from finetune.terminal.summaries import validate_summary

    with with_restore_command("validate"), progress_bar("check") as progress:
        params = load_params()
        for number in with_secrets(params.notify):
            say(
                f"warning: params.yaml: address {number} of notify has a password or token, which each commit would"
                " keep. Put it into .env, as NAME=…, and write $NAME here."
            )
        report = stage.run(params, progress=progress, say=say)
    jobs = len(ledger.rows_of(params.provider.name, params.train.base))
    print(validate_summary(report, params, budget.estimated(params), jobs))


def upload() -> None:
    """Upload the training and validation files, each content once."""
    from finetune.core.params import load_params
    from finetune.project.notifications import telling
    from finetune.stages import upload as stage
    from finetune.terminal.progress import say

    with with_restore_command("upload"):
        params = load_params()
        with telling(params.notify, "upload", say):  # of errors only: it begins what is left alone for hours
            record = stage.run(params)
    print("upload: " + ", ".join(f"the {split} file is {file['id']}" for split, file in record.items()))


def train(
    again: Annotated[
        bool, typer.Option("--again", help="Create a new job even if the same one failed, or has a model. It may cost.")
    ] = False,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="You know that an earlier request without a clear answer has made no job."),
    ] = False,
) -> None:
    """Train with one job (paid). An existing job is found and used.

    The same data, base, hyperparameters, seed and suffix are one job. After a request without a clear answer, nothing
    is created until the provider's list had its time.

    Examples: finetune train · finetune train --again
    """
    from finetune.core.params import load_params
    from finetune.project.notifications import telling
    from finetune.stages import train as stage
    from finetune.terminal.progress import say

    with with_restore_command("train"):
        params = load_params()
        with telling(params.notify, "train", say) as tell_success:
            record = stage.run(params, again, forget)
            tell_success(f"Job {record['job']} has the model {record['model']}.\n{record['verdict_words']}")
    print(f"train: {record['model']}")


def baseline(fresh: Fresh = False) -> None:
    """Ask the base model the test questions.

    Examples: finetune baseline · finetune baseline --fresh, then: dvc commit -f baseline && dvc repro
    """
    from finetune.core.params import load_params
    from finetune.stages import baseline as stage

    with with_restore_command("baseline"):
        print(f"baseline: {stage.run(load_params(), fresh)} answers{after_fresh('baseline', fresh)}")


def tuned(fresh: Fresh = False) -> None:
    """Ask the tuned model, the models to compare, the judge and the graders.

    Examples: finetune tuned · finetune tuned --fresh, then: dvc commit -f tuned && dvc repro
    """
    from finetune.core.params import load_params
    from finetune.stages import tuned as stage

    with with_restore_command("tuned"):
        print(f"tuned: {stage.run(load_params(), fresh)} answers{after_fresh('tuned', fresh)}")


def after_fresh(stage: str, fresh: bool) -> str:
    """Return what to do with new answers to the same questions: without it, DVC restores the former ones."""
    return f". Keep these with: dvc commit -f {stage} && dvc repro" if fresh else ""


def evaluate() -> None:
    """Score the answers on disk. No model, key or network is needed."""
    from finetune.core.params import load_params
    from finetune.stages import evaluate as stage
    from finetune.terminal.progress import say
    from finetune.terminal.scores import print_scores

    with with_restore_command("evaluate"):
        report = stage.run(load_params(), say)
    print_scores(report)
    print(f"evaluate: scored {report['n']} test rows. Show the plots with: dvc plots show")


def export(
    to: Annotated[
        list[str] | None,
        typer.Option(help="A format, in place of those of export.formats. Give it several times for several formats."),
    ] = None,
) -> None:
    """Write the model in other formats, and ask each exported file the test rows.

    Answers are compared with those of the measured model. Each format is a folder of exports/, which has only the last
    export; former ones come back with the commits that have them.

    adapter: PEFT's folder, which vLLM and Transformers load with the base.

    merged: safetensors, which they load alone.

    gguf-q8_0 (short: gguf, ollama), gguf-q4_k_m, gguf-bf16, gguf-f16: for llama.cpp and Ollama.

    Next: exports/FORMAT/README.md has the commands that serve it and ask it; finetune promote --export FORMAT tags it.

    Examples: finetune export · finetune export --to merged --to gguf-q4_k_m
    """
    from finetune.core.params import load_params
    from finetune.project.record_outputs import record_outputs
    from finetune.stages import export as stage
    from finetune.terminal.exports import export_summary

    with with_restore_command("export"):
        report = stage.run(load_params(), to)
    print(export_summary(report))
    # In a stage, DVC records them itself.
    is_recorded = "DVC_STAGE" not in os.environ and record_outputs("export")
    if to and is_recorded:
        print(
            "DVC keeps these until export.formats or the model changes.\n"
            "Put them into the report, and commit: dvc repro && git add . && git commit\n"
            "To export each new model so, list the formats in export.formats of params.yaml."
        )


def report() -> None:
    """Write the report as a page and as Markdown for a pull request."""
    from finetune.core.read_records import read_evaluated_model
    from finetune.report.headline import headline
    from finetune.stages import report as stage

    with with_restore_command("report"):
        stage.run()
    found = headline(read_evaluated_model()[1])
    print(f"report: tuned against {found.against}: {found.clause}. Open {stage.PAGE}")
