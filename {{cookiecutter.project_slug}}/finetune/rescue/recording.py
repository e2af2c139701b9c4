"""Record what a fine-tuned model answers, before the provider shuts it down."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune.core.callbacks import Say
from finetune.core.disk import sha256_of, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.records.answers import RecordedAnswer
from finetune.core.sections.evaluate import Evaluate
from finetune.project.deployment import is_of_other_model, refuse_other_answers
from finetune.provider.answer_parser import Answer, was_cut
from finetune.provider.completion_request import CompletionRequest, Messages, completion_request
from finetune.provider.completions import ask_all, kept_answers
from finetune.provider.connect import Connection
from finetune.rescue.answers import canonical, recorded_answers
from finetune.rescue.downloads import OF
from finetune.rescue.questions import without_weights
from finetune.rescue.save import ASKING, Plan, killed_runs
from finetune.terminal.progress import progress_bar


def record(connection: Connection, params: Params, name: str, found: Plan, say: Say) -> dict[str, Any]:
    """Ask the planned questions at temperature 0 with log-probabilities; write the answers, then the manifest.

    `name` is the one to ask the model by. Recorded answers, and those of an interrupted run, are not asked again. Where
    the asking ends with an error, the answers until then are written before it is raised: the model may never answer
    again.
    """
    import openai

    settings = settings_of(params)
    requests = requests_of(connection, params, name, found)
    if not requests:
        return write(params, found, [], settings)
    try:
        with counted_as_killed(found.saved.folder), progress_bar(f"ask {name}") as progress:
            answers: list[Answer | None] = [*ask_all(connection, requests, settings, progress, say, probe=False)]
    except (openai.APIError, FinetuneError, KeyboardInterrupt):
        record_kept(connection, params, name, found, say)
        raise
    refuse_other_answers(connection, name, found.saved.model)
    return write(params, found, answers, settings)


def requests_of(connection: Connection, params: Params, name: str, found: Plan) -> list[CompletionRequest]:
    """Return the requests of the planned questions."""
    settings = settings_of(params)
    prompts = (without_weights(found.asked.prompts[number]) for number in found.todo)
    return [
        completion_request(connection, name, prompt, settings, params.train.seed, None, settings.top_logprobs)
        for prompt in prompts
    ]


def record_kept(connection: Connection, params: Params, name: str, found: Plan, say: Say) -> None:
    """Write the recorded answers with those that interrupted runs have kept on this machine. Nobody is asked."""
    folder = found.saved.folder
    kept = kept_answers(connection, requests_of(connection, params, name, found))
    answers = [None if one and is_of_other_model(one, found.saved.model) else one for one in kept]
    if any(answers) or (folder / f"answers{found.name}.jsonl").is_file():
        saved = write(params, found, answers, settings_of(params))
        say(f"rescue: the asking ended early. {saved['asked']:,} answers are in {folder}.")


@contextmanager
def counted_as_killed(folder: Path) -> Iterator[None]:
    """Count the block as a run that was killed, until it ends, with an error or without."""
    runs = killed_runs(folder)
    write_json(folder / ASKING, {"runs": runs + 1})
    try:
        yield
    finally:
        write_json(folder / ASKING, {"runs": runs})


def settings_of(params: Params) -> Evaluate:
    """Return how the model is asked: at temperature 0, without what changes or cuts an answer."""
    changes = {"temperature": 0.0, "stop": [], "presence_penalty": 0.0, "frequency_penalty": 0.0, "batch": False}
    return params.evaluate.model_copy(update=changes)


def write(params: Params, found: Plan, answers: list[Answer | None], settings: Evaluate) -> dict[str, Any]:
    """Write the answers to the open questions, and then the manifest, which is returned. Former answers stay."""
    folder, asked = found.saved.folder, found.asked
    file = folder / f"answers{found.name}.jsonl"
    former = recorded_answers(file)
    new = dict(zip(found.todo, answers, strict=False))
    rows: list[RecordedAnswer] = []
    for number, (prompt, expected, place) in enumerate(zip(asked.prompts, asked.expected, asked.places, strict=True)):
        answer, before = new.get(number), former.pop(canonical(prompt), None)
        if answer and not (answer.error and before and "error" not in before):
            rows.append(answer_row(answer, prompt, expected, place, settings.max_tokens))
        elif before:
            rows.append(before)
    others = [row for row in former.values() if "error" not in row]  # of another file with this name, or of former rows
    write_jsonl(file, [*rows, *others])
    manifest = manifest_of(params, found, rows, len(others), settings)
    write_json(folder / f"manifest{found.name}.json", manifest)
    return manifest


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
            row["cut"], row["max_tokens"] = True, max_tokens
        if answer.refused:
            row["refused"] = True
    if expected is not None:
        row["expected"] = expected
    return row


def manifest_of(
    params: Params, found: Plan, rows: list[RecordedAnswer], others: int, settings: Evaluate
) -> dict[str, Any]:
    """Return what was saved, how it was asked and what it cost. `others` are answers to rows of earlier runs."""
    answered = [row for row in rows if "error" not in row]
    prompt_tokens = total([row.get("prompt_tokens") for row in answered])
    answer_tokens = total([row.get("completion_tokens") for row in answered])
    prices = found.facts.get("input_usd_per_million"), found.facts.get("output_usd_per_million")
    usd = None
    if prices[0] is not None and prices[1] is not None and prompt_tokens is not None and answer_tokens is not None:
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
        "asked": len(rows),
        "not_asked": len(found.asked.prompts) - len(rows),
        "left_out": dict(sorted(found.asked.left_out.items())),
        "refused": len(rows) - len(answered),
        "cut": sum("cut" in row for row in answered),
        "answers_of_earlier_rows": others,
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


def total(counts: list[int | None]) -> int | None:
    """Return the sum of tokens; None where the provider did not say one of them."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def is_note(path: Path) -> bool:
    """Return whether a file is not among those that a manifest lists."""
    return path.name in (OF, ASKING) or (path.name.startswith("manifest") and path.suffix == ".json")
