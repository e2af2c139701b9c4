"""Save the files of a fine-tuned model before its shutdown, and plan what to ask it within a budget."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Say
from finetune.core.disk import read_note, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.data.images import images_of
from finetune.data.token_counts import IMAGE_PRICES, counter
from finetune.pricing.catalogue import base_name, look_up
from finetune.project.deployment import answering_name
from finetune.provider.connect import Connection
from finetune.provider.find_model import find_model
from finetune.provider.ready_model import lacks_model
from finetune.rescue.answers import canonical, is_answered, recorded_answers
from finetune.rescue.downloads import OF, WEIGHTS, download, folder_of, safe_name
from finetune.rescue.questions import Asked, bound_of, questions_in_data, questions_in_rows, replay_questions

if TYPE_CHECKING:
    from openai.types.fine_tuning import FineTuningJob

ROOT = Path("data/rescued")
ASKING = "asking.json"  # how many runs ended in the middle of asking


@dataclass(frozen=True)
class Saved:
    """A model whose files are in a folder, and what the provider lacks of them."""

    model: str
    job: "FineTuningJob"
    folder: Path
    missing: list[str]


@dataclass(frozen=True)
class Plan:
    """What will be asked, and what it costs at most, in US dollars; None: a price is not known."""

    saved: Saved
    asked: Asked
    name: str  # what tells the answers to rows of a file from those to the model's data
    todo: list[int]  # the numbers of the questions to ask: those without an answer that the budget pays
    left: int  # questions that it does not pay
    new_usd: float | None  # for the questions to ask
    most_usd: float | None  # with what earlier runs have asked
    all_usd: float | None
    facts: dict[str, Any]


def find(connection: Connection, model: str, say: Say) -> "tuple[FineTuningJob, str]":
    """Return what `find_model` does. Raises FinetuneError where the provider lists no such model."""
    found = find_model(connection, model, lambda message: say(f"rescue: {message}"))
    if found is None:
        raise FinetuneError(
            f"The provider lists no job with the model, checkpoint or ID {model}.",
            "See the account's fine-tuned models with: finetune rescue list. For those of another project or"
            " organisation, set its key.",
        )
    if found[1] != model:
        say(f"rescue: {model} is {found[1]} of job {found[0].id}.")
    return found


def save_files(connection: Connection, job: "FineTuningJob", model: str, say: Say) -> Saved:
    """Download what the provider has of a model, which is free."""
    folder = folder_of(model, ROOT)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / OF, {"model": model})
    missing = download(connection, job, model, folder)
    if missing:
        say(f"rescue: the provider lacks: {', '.join(missing)}")
    return Saved(model, job, folder, missing)


def name_to_ask(connection: Connection, params: Params, saved: Saved) -> str:
    """Return the name by which a saved model is asked. Raises FinetuneError if it is gone, or not deployed.

    No document says that providers list the models of checkpoints, so these are asked without being listed.
    """
    if saved.model == saved.job.fine_tuned_model and lacks_model(connection, saved.model):
        raise FinetuneError(
            f"{saved.model} is no longer at the provider, so it cannot be asked. What there is of it is in"
            f" {saved.folder}.",
            "See the other models with: finetune rescue list",
        )
    try:
        return answering_name(params, saved.model)
    except FinetuneError as error:
        weights = f" Its weights are in {saved.folder / WEIGHTS}." if (saved.folder / WEIGHTS).is_dir() else ""
        raise FinetuneError(
            f"The files of {saved.model} are saved in {saved.folder}, and its answers are not: {error.what}{weights}",
            "In the project that has its record in models/model.json, run: finetune deploy, then the same command.",
        ) from error


def questions(params: Params, saved: Saved, rows: Path | None, say: Say) -> Asked:
    """Return the rows of a file as questions, else those of the model's data. Raises FinetuneError without any.

    `todo` are those without a recorded answer, whether it was asked on this machine or on another one.
    """
    model, folder = saved.model, saved.folder
    asked = questions_in_rows(params, rows) if rows else questions_in_data(folder, replay_questions(params, say))
    if not asked.prompts:
        why = "; ".join(f"rows left out: {count:,}, {reason}" for reason, count in asked.left_out.items())
        raise FinetuneError(
            f"There is no question to ask {model}{f' ({why})' if why else ''}.",
            f"Give rows with: --rows FILE (as for finetune predict). What costs nothing is in {folder}.",
        )
    recorded = recorded_answers(folder / f"answers{name_of(rows)}.jsonl")
    for number, prompt in enumerate(asked.prompts):
        row = recorded.get(canonical(prompt))
        if not is_answered(row, params.evaluate.max_tokens):
            asked.todo.append(number)
            asked.again += [row] if row else []
    return asked


def name_of(rows: Path | None) -> str:
    """Return what tells the answers to rows of a file from those to the model's data, in the names of files."""
    return f"-{safe_name(rows.stem)}" if rows else ""


def plan(
    connection: Connection, params: Params, saved: Saved, asked: Asked, rows: Path | None, usd: float | None
) -> Plan:
    """Return what to ask a model within the budget.

    The cost is an upper bound: the tokens of each prompt, and `evaluate.max_tokens` for each answer. The budget counts
    all rows, whether an earlier run has asked them or not, and for each run that was killed the answers that were on
    their way, so that runs together keep to it.
    """
    model, job, folder, name, todo = saved.model, saved.job, saved.folder, name_of(rows), asked.todo
    base = look_up(base_name(model) if model.startswith("ft:") else job.model, connection.profile.name)
    count = counter(base.encoding, base.image_tokens or IMAGE_PRICES)
    prices = base.call_prices(tuned=True)
    facts: dict[str, Any] = {
        "base": job.model,
        "job": job.id,
        "shutdown": str(base.shutdown) if base.shutdown else None,
    }
    price_in, price_out = prices.input, prices.output
    has_images = any(images_of(message) for prompt in asked.prompts for message in prompt)
    if price_in is None or price_out is None or (has_images and base.image_tokens is None):
        unknown, keys = f"The price of calls of {base.name}'s fine-tunes", "`input` and `output`"
        if has_images and base.image_tokens is None:
            unknown, keys = f"How many tokens an image has for {base.name}", "`image_tokens`"
        if usd is not None and todo:
            raise FinetuneError(
                f"{unknown} is unknown, so --usd {usd:g} cannot be kept to.",
                f"Add {keys} to models.toml, or leave out --usd.",
            )
        return Plan(saved, asked, name, todo, 0, None if todo else 0.0, None, None, facts)
    answer = params.evaluate.max_tokens * price_out
    prices_of = [bound_of(prompt, base, count) * price_in + answer for prompt in asked.prompts]
    lost = killed_runs(folder) * min(params.evaluate.concurrency, len(prices_of)) * max(prices_of)
    for row in asked.again:  # cut answers that were paid, and are asked with a higher limit
        lost += (row.get("prompt_tokens") or 0) * price_in + (row.get("completion_tokens") or 0) * price_out
    sums = [lost + one for one in accumulate(prices_of)]
    fits = [one for one in sums if usd is None or one <= usd * 1_000_000]
    facts |= {"input_usd_per_million": price_in, "output_usd_per_million": price_out}
    paid = [number for number in todo if number < len(fits)]
    new = sum(prices_of[number] for number in paid)
    most = fits[-1] if fits else 0.0
    return Plan(saved, asked, name, paid, len(todo) - len(paid), new / 1e6, most / 1e6, sums[-1] / 1e6, facts)


def killed_runs(folder: Path) -> int:
    """Return how many runs ended in the middle of asking without an error: what was on its way is paid again."""
    return int(read_note(folder / ASKING).get("runs", 0))
