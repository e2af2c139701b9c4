"""`finetune estimate`: the cost of a training file before it is sent."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from finetune.commands.options import AsJson
from finetune.core.errors import FinetuneError
from finetune.terminal.progress import say
from finetune.terminal.tables import print_json, print_table

PROVIDER = "openai"  # outside a project
TOTALS = ("tokens", "billed_tokens", "train_usd", "seconds")  # the figures that grow with the tokens


def estimate(
    file: Annotated[Path, typer.Argument(help="A training file in JSON Lines.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            "--model",
            help="The base model, or a model fine-tuned from it; in a project, by default its base.",
        ),
    ] = None,
    n_epochs: Annotated[
        str | None, typer.Option(help="The number of epochs, 1 to 50, or auto; in a project, by default its number.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="The provider; in a project, by default its provider, elsewhere openai.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the cost of a training file.

    In a project, params.yaml says what is not given here, and the bills of earlier jobs on this base
    (reports/ledger.csv) correct the estimate. A figure that is not known is printed as "unknown".

    Examples: finetune estimate train.jsonl · finetune estimate train.jsonl --base gpt-4.1-mini-2025-04-14 --n-epochs 2
    """
    import datetime

    from finetune.core.break_even import UNKNOWN
    from finetune.core.counted import counted
    from finetune.core.disk import read_if_there
    from finetune.core.paths import PREPARED, REPLAY, VALIDATION_REPORT
    from finetune.core.records.checks import ValidationReport
    from finetune.data.checks.check_file import check_file
    from finetune.data.checks.project_files import refuse_table
    from finetune.pricing.catalogue import alias_note, look_up
    from finetune.pricing.cost import auto_epochs
    from finetune.pricing.cost import estimate as cost_of
    from finetune.project.ledger import learned, rows_of

    refuse_table(file)
    base, n_epochs, provider = settings(base, n_epochs, provider)
    if note := alias_note(base):
        say(note)
    known = look_up(base, provider)
    checked = check_file(file, encoding=known.encoding, image_prices=known.image_tokens)
    # Lines with mistakes count as examples: with them, `auto` takes fewer epochs.
    epochs = auto_epochs(len(checked.tokens) + checked.refused_lines) if n_epochs == "auto" else int(n_epochs)
    ratio, seconds = learned(provider, base)
    cost = cost_of(checked.tokens.tolist(), epochs, known.context, known.training, seconds or known.seconds, ratio)
    retired = known.retired(datetime.date.today())
    report = {
        **cost,
        "provider": provider,
        "retired": retired,
        "tokens_exact": known.tokens_exact and len(checked.tokens) > 0 and checked.tokens_are_exact,
        "tokens_at_least": checked.tokens_at_least,
    }
    if not len(checked.tokens):
        unknown = ("tokens", "billed_tokens", "n_epochs") if n_epochs == "auto" else ("tokens", "billed_tokens")
        report |= dict.fromkeys(unknown, UNKNOWN)
    if as_json:
        print_json(report)
    else:
        totals = TOTALS if checked.tokens_at_least else ()
        print_table(["", known.name], [[key.replace("_", " "), shown(key, report[key], totals)] for key in report])
    if jobs := len(rows_of(provider, base)):
        say(f"Corrected by the bills of earlier jobs on this base in reports/ledger.csv: {jobs}.")
    is_train = file.resolve() == (PREPARED / "train.jsonl").resolve()
    if is_train and read_if_there(VALIDATION_REPORT, "validate", ValidationReport).get("replay"):
        say(f"Without the rows of train.replay ({REPLAY}), which are trained and paid for too: see dvc repro validate.")
    if retired:
        say(f"{known.name} was shut down on {known.shutdown}: this is its last price.")
    if checked.refused_lines or not len(checked.tokens):
        lines = counted(checked.refused_lines, "line") if checked.refused_lines else "All lines"
        say(f"Not counted, because of mistakes: {lines}. See: finetune check {file}")
    if checked.unknown_images:
        what = counted(checked.unknown_images, "example")
        say(f"{what} with images whose tokens are not known: they count as low detail.")
    if checked.with_functions:
        what = counted(checked.with_functions, "example")
        say(
            f"{what} with declared or called functions, which a server counts in its own way: the total is about right."
        )


def shown(key: str, value: Any, totals: Collection[str]) -> Any:
    """Return a figure for people: "at least" before those of `totals` that are known."""
    return value if key not in totals or isinstance(value, str) else f"at least {value:,}"


def settings(base: str | None, n_epochs: str | None, provider: str | None) -> tuple[str, str, str]:
    """Return base, epochs and provider: those given, else those of the project, which is said."""
    from finetune.core.profiles import PROFILES

    if n_epochs not in (None, "auto") and not (str(n_epochs).isdecimal() and 1 <= int(str(n_epochs)) <= 50):
        raise typer.BadParameter("a number from 1 to 50, or auto", param_hint="--n-epochs")
    if provider not in (None, *PROFILES):
        raise typer.BadParameter(f"one of {', '.join(PROFILES)}", param_hint="--provider")
    given = {"base": base, "n_epochs": n_epochs, "provider": provider}
    own = project_settings(base) if None in given.values() else {}
    if taken := {name: value for name, value in own.items() if given[name] is None}:
        say("From params.yaml: " + ", ".join(f"{name} {value}" for name, value in taken.items()) + ".")
        given |= taken
    if given["base"] is None:
        raise typer.BadParameter("needed outside a project", param_hint="--base")
    return given["base"], given["n_epochs"] or "auto", given["provider"] or PROVIDER


def project_settings(base: str | None) -> dict[str, str]:
    """Return base, epochs and provider of the project in this folder; {} outside a project.

    A params.yaml that is not valid, or of another tool, is not needed where `base` is given; this is said then.
    """
    from finetune.core.params import load_params
    from finetune.core.paths import PARAMS
    from finetune.pricing.catalogue import look_up

    if not PARAMS.exists():
        return {}
    try:
        params = load_params()
    except FinetuneError as error:
        if base is None:
            raise
        say(f"Not used: {error.what}")
        return {}
    found = {"base": params.train.base, "n_epochs": str(params.train.n_epochs), "provider": params.provider.name}
    if base and params.provider.name == "local" and look_up(base, PROVIDER).training is not None:
        del found["provider"]  # this machine does not train that base: it is not free
    return found
