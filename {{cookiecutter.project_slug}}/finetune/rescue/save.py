"""Save what a fine-tuned model is and what it answers, before the provider shuts it down."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from finetune.core.callbacks import Say
from finetune.core.disk import sha256_of, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Evaluate, Params
from finetune.data.token_counts import IMAGE_PRICES, counter
from finetune.pricing.catalogue import base_name, look_up
from finetune.provider.answer_parser import Answer, was_cut
from finetune.provider.completions import answer_all
from finetune.provider.connect import Connection
from finetune.rescue.account import job_of
from finetune.rescue.downloads import download, folder_of
from finetune.rescue.questions import Asked, bound_of, questions_in
from finetune.terminal.progress import progress_bar

ROOT = Path("data/rescued")
ANSWERS = "answers.jsonl"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Plan:
    """What will be asked, and what it costs at most, in US dollars; None: a price is not known."""

    folder: Path
    asked: Asked
    rows: int  # of the questions, from the first: as many as the budget pays
    most_usd: float | None
    all_usd: float | None
    missing: list[str]
    facts: dict[str, Any]


def plan(connection: Connection, params: Params, model: str, rows: Path | None, usd: float | None, say: Say) -> Plan:
    """Download what the provider has, which is free, and return what to ask within the budget.

    The cost is an upper bound: the tokens of each prompt, and `evaluate.max_tokens` for each answer. It counts all
    rows, whether an earlier run has asked them or not, so that runs together keep to the budget. Raises FinetuneError
    where the provider has no such model, or there is nothing to ask.
    """
    if connection.profile.deploys:
        raise FinetuneError(
            f"At {connection.profile.name!r}, models answer by their deployments' names, which is not supported here.",
            f"Ask it with: finetune predict FILE --model NAME-OF-ITS-DEPLOYMENT; {model} is not saved.",
        )
    folder, job = folder_of(model, ROOT), job_of(connection, model)
    if job is None:
        raise FinetuneError(
            f"The provider lists no job that made {model}.", "See what the account has with: finetune rescue list"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "of.json", {"model": model})
    missing = download(connection, job, folder)
    if missing:
        say(f"rescue: the provider lacks: {', '.join(missing)}")
    asked = questions_in(params, folder, rows)
    if not asked.prompts:
        raise FinetuneError(
            f"There is no question to ask {model}.", "Give rows with: --rows FILE (as for finetune predict)."
        )
    base = look_up(base_name(model) if model.startswith("ft:") else job.model, connection.profile.name)
    count = counter(base.encoding, base.image_tokens or IMAGE_PRICES)
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
        return Plan(folder, asked, len(asked.prompts), None, None, missing, facts)
    price_in, price_out = prices.input, prices.output
    answer = params.evaluate.max_tokens * price_out
    sums = list(accumulate(bound_of(prompt, base, count) * price_in + answer for prompt in asked.prompts))
    fits = [one for one in sums if usd is None or one <= usd * 1_000_000]
    facts |= {"input_usd_per_million": price_in, "output_usd_per_million": price_out}
    return Plan(folder, asked, len(fits), fits[-1] / 1e6 if fits else 0.0, sums[-1] / 1e6, missing, facts)


def ask(connection: Connection, params: Params, model: str, found: Plan, say: Say) -> dict[str, Any]:
    """Ask the planned questions at temperature 0 with log-probabilities; write the answers, then the manifest.

    Answers of an interrupted run are not asked again.
    """
    settings = settings_of(params)
    with progress_bar(f"ask {model}") as progress:
        answers = answer_all(
            connection,
            model,
            found.asked.prompts[: found.rows],
            settings,
            params.train.seed,
            progress,
            say,
            top_logprobs=settings.top_logprobs,
        )
    pairs = zip(answers, found.asked.prompts, found.asked.expected, found.asked.places, strict=False)
    write_jsonl(found.folder / ANSWERS, (answer_row(*one) for one in pairs))
    manifest = manifest_of(model, params, found, answers, settings)
    write_json(found.folder / MANIFEST, manifest)
    return manifest


def settings_of(params: Params) -> Evaluate:
    """Return how the model is asked: at temperature 0, without what changes or cuts an answer."""
    changes = {"temperature": 0.0, "stop": [], "presence_penalty": 0.0, "frequency_penalty": 0.0, "batch": False}
    return params.evaluate.model_copy(update=changes)


def answer_row(answer: Answer, prompt: Any, expected: str | None, place: str) -> dict[str, Any]:
    """Return a row with the question and the model's answer as `messages`: an example for a successor."""
    row: dict[str, Any] = {"place": place, "messages": list(prompt)}
    if answer.error:
        row |= {"error": answer.error}
    else:
        row["messages"] = [*prompt, {"role": "assistant", "content": answer.text}]
        row |= {"logprobs": answer.logprobs}
    if expected is not None:
        row["expected"] = expected
    return row


def manifest_of(model: str, params: Params, found: Plan, answers: list[Answer], settings: Evaluate) -> dict[str, Any]:
    """Return what was saved, how it was asked and what it cost."""
    prompt_tokens = sum(answer.prompt_tokens or 0 for answer in answers)
    answer_tokens = sum(answer.completion_tokens or 0 for answer in answers)
    prices = [found.facts.get(f"{what}_usd_per_million") for what in ("input", "output")]
    usd = None
    if prices[0] is not None and prices[1] is not None:
        usd = round((prompt_tokens * prices[0] + answer_tokens * prices[1]) / 1e6, 6)
    files = sorted(path for path in found.folder.iterdir() if path.name not in (MANIFEST, "of.json"))
    return {
        "model": model,
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
        "missing": found.missing,
        "files": {path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in files},
    }
