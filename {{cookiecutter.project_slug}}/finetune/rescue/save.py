"""Save what a fine-tuned model is and what it answers, before the provider shuts it down."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.core.callbacks import Say
from finetune.core.disk import read_note, sha256_of, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Evaluate, Params
from finetune.core.records import RecordedAnswer
from finetune.data.token_counts import IMAGE_PRICES, counter
from finetune.pricing.catalogue import base_name, look_up
from finetune.project.deployment import answering_name
from finetune.provider.answer_parser import Answer, was_cut
from finetune.provider.completion_request import Messages
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection
from finetune.rescue.account import job_of
from finetune.rescue.downloads import OF, WEIGHTS, download, folder_of, safe_name
from finetune.rescue.questions import Asked, bound_of, questions_in_data, questions_in_rows, without_weights
from finetune.terminal.progress import progress_bar

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
    rows: int  # of the questions, from the first: as many as the budget pays
    most_usd: float | None
    all_usd: float | None
    facts: dict[str, Any]


def save_files(connection: Connection, model: str, say: Say) -> Saved:
    """Download what the provider has of a model, which is free. Raises FinetuneError where it lists no such model."""
    folder, job = folder_of(model, ROOT), job_of(connection, model)
    if job is None:
        raise FinetuneError(
            f"The provider lists no job that made {model}.", "See what the account has with: finetune rescue list"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / OF, {"model": model})
    missing = download(connection, job, model, folder)
    if missing:
        say(f"rescue: the provider lacks: {', '.join(missing)}")
    return Saved(model, job, folder, missing)


def name_to_ask(params: Params, saved: Saved) -> str:
    """Return the name by which a saved model is asked. Raises FinetuneError if it must be deployed first."""
    try:
        return answering_name(params, saved.model)
    except FinetuneError as error:
        weights = f" Its weights are in {saved.folder / WEIGHTS}." if (saved.folder / WEIGHTS).is_dir() else ""
        raise FinetuneError(
            f"The files of {saved.model} are saved in {saved.folder}, and its answers are not: {error.what}{weights}",
            "In the project that has its record in models/model.json, run: finetune deploy, then the same command.",
        ) from error


def plan(connection: Connection, params: Params, saved: Saved, rows: Path | None, usd: float | None) -> Plan:
    """Return what to ask a model within the budget.

    The cost is an upper bound: the tokens of each prompt, and `evaluate.max_tokens` for each answer. It counts all
    rows, whether an earlier run has asked them or not, and for each run that was killed the answers that were on their
    way, so that runs together keep to the budget. Raises FinetuneError where there is nothing to ask.
    """
    model, job, folder = saved.model, saved.job, saved.folder
    asked = questions_in_rows(params, rows) if rows else questions_in_data(folder)
    if not asked.prompts:
        raise FinetuneError(
            f"There is no question to ask {model}.", "Give rows with: --rows FILE (as for finetune predict)."
        )
    base = look_up(base_name(model) if model.startswith("ft:") else job.model, connection.profile.name)
    count = counter(base.encoding, base.image_tokens or IMAGE_PRICES)
    name = f"-{safe_name(rows.stem)}" if rows else ""
    prices = base.call_prices(tuned=True)
    facts: dict[str, Any] = {
        "base": job.model,
        "job": job.id,
        "shutdown": str(base.shutdown) if base.shutdown else None,
    }
    if prices.input is None or prices.output is None:
        if usd is not None:
            raise FinetuneError(
                f"The price of calls of {base.name}'s fine-tunes is unknown, so --usd {usd:g} cannot be kept to.",
                "Add `input` and `output` to models.toml, or leave out --usd.",
            )
        return Plan(saved, asked, name, len(asked.prompts), None, None, facts)
    price_in, price_out = prices.input, prices.output
    answer = params.evaluate.max_tokens * price_out
    prices_of = [bound_of(prompt, base, count) * price_in + answer for prompt in asked.prompts]
    lost = killed_runs(folder) * min(params.evaluate.concurrency, len(prices_of)) * max(prices_of)
    sums = [lost + one for one in accumulate(prices_of)]
    fits = [one for one in sums if usd is None or one <= usd * 1_000_000]
    facts |= {"input_usd_per_million": price_in, "output_usd_per_million": price_out}
    return Plan(saved, asked, name, len(fits), fits[-1] / 1e6 if fits else 0.0, sums[-1] / 1e6, facts)


def killed_runs(folder: Path) -> int:
    """Return how many runs ended in the middle of asking without an error: what was on its way is paid again."""
    return int(read_note(folder / ASKING).get("runs", 0))


@contextmanager
def counted_as_killed(folder: Path) -> Iterator[None]:
    """Count the block as a run that was killed, until it ends, with an error or without."""
    runs = killed_runs(folder)
    write_json(folder / ASKING, {"runs": runs + 1})
    try:
        yield
    finally:
        write_json(folder / ASKING, {"runs": runs})


def ask(connection: Connection, params: Params, name: str, found: Plan, say: Say) -> dict[str, Any]:
    """Ask the planned questions at temperature 0 with log-probabilities; write the answers, then the manifest.

    `name` is the one to ask the model by. Answers of an interrupted run are not asked again.
    """
    settings, folder = settings_of(params), found.saved.folder
    prompts = [without_weights(prompt) for prompt in found.asked.prompts[: found.rows]]
    with counted_as_killed(folder), progress_bar(f"ask {name}") as progress:
        answers = answer_all(
            connection,
            name,
            prompts,
            settings,
            params.train.seed,
            progress,
            say,
            top_logprobs=settings.top_logprobs,
        )
    pairs = zip(answers, found.asked.prompts, found.asked.expected, found.asked.places, strict=False)
    write_jsonl(folder / f"answers{found.name}.jsonl", (answer_row(*one, settings.max_tokens) for one in pairs))
    manifest = manifest_of(params, found, answers, settings)
    write_json(folder / f"manifest{found.name}.json", manifest)
    return manifest


def settings_of(params: Params) -> Evaluate:
    """Return how the model is asked: at temperature 0, without what changes or cuts an answer."""
    changes = {"temperature": 0.0, "stop": [], "presence_penalty": 0.0, "frequency_penalty": 0.0, "batch": False}
    return params.evaluate.model_copy(update=changes)


def answer_row(answer: Answer, prompt: Messages, expected: str | None, place: str, max_tokens: int) -> RecordedAnswer:
    """Return a row with the question and the model's answer as `messages`: an example for a successor."""
    row: RecordedAnswer = {"place": place, "messages": list(prompt)}
    if answer.error:
        row["error"] = answer.error
    else:
        row["messages"] = [*prompt, {"role": "assistant", "content": answer.text}]
        row["logprobs"] = answer.logprobs
        row["prompt_tokens"], row["completion_tokens"] = answer.prompt_tokens, answer.completion_tokens
        if was_cut(answer, max_tokens):
            row["cut"] = True
        if answer.refused:
            row["refused"] = True
    if expected is not None:
        row["expected"] = expected
    return row


def manifest_of(params: Params, found: Plan, answers: list[Answer], settings: Evaluate) -> dict[str, Any]:
    """Return what was saved, how it was asked and what it cost."""
    prompt_tokens = sum(answer.prompt_tokens or 0 for answer in answers)
    answer_tokens = sum(answer.completion_tokens or 0 for answer in answers)
    prices = [found.facts.get(f"{what}_usd_per_million") for what in ("input", "output")]
    usd = None
    if prices[0] is not None and prices[1] is not None:
        usd = round((prompt_tokens * prices[0] + answer_tokens * prices[1]) / 1e6, 6)
    folder = found.saved.folder
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not is_note(path))
    return {
        "model": found.saved.model,
        "provider": params.provider.name,
        **found.facts,
        "settings": {
            "temperature": 0.0,
            "seed": params.train.seed,
            "max_tokens": settings.max_tokens,
            "top_logprobs": settings.top_logprobs,
        },
        "questions": len(found.asked.prompts),
        "asked": len(answers),
        "left_out_by_budget": len(found.asked.prompts) - found.rows,
        "left_out": dict(sorted(found.asked.left_out.items())),
        "refused": sum(bool(answer.error) for answer in answers),
        "cut": sum(was_cut(answer, settings.max_tokens) for answer in answers if not answer.error),
        "prompt_tokens": prompt_tokens,
        "answer_tokens": answer_tokens,
        "usd": usd,
        "usd_at_most": found.most_usd and round(found.most_usd, 6),
        "missing": found.saved.missing,
        "files": {
            path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            for path in files
        },
    }


def is_note(path: Path) -> bool:
    """Return whether a file is not among those that a manifest lists."""
    return path.name in (OF, ASKING) or (path.name.startswith("manifest") and path.suffix == ".json")
