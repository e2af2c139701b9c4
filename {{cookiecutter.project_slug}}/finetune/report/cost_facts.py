"""What a call costs with each model, and what the training cost."""

from collections.abc import Mapping

from finetune.core.break_even import UNKNOWN, break_even
from finetune.core.evaluated_models import is_asked
from finetune.core.profiles import PROFILES
from finetune.core.records.answers import Latency
from finetune.core.records.evaluation import Evaluation
from finetune.report.model_metrics import USAGE, model_label, models
from finetune.report.number_formats import is_known, money, tokens
from finetune.report.page_tables import Table
from finetune.report.stage_outputs import Results

TIMES = {"median_ms": "median time", "p95_ms": "95th percentile"}


def usage_table(evaluation: Evaluation, latency: Mapping[str, Latency]) -> Table | None:
    """Return tokens, dollars and milliseconds of a call by model; None if nothing was measured."""
    found = {name: model for name, model in models(evaluation).items() if is_asked(name)}
    columns = {key: title for key, title in USAGE.items() if any(key in model for model in found.values())}
    times = {key: title for key, title in TIMES.items() if any(key in one for one in latency.values())}
    if not columns and not times:
        return None
    rows = []
    for name, model in found.items():
        cells = [(money if key.startswith("usd") else tokens)(model.get(key)) for key in columns]
        rows.append([model_label(name), *cells, *(milliseconds(latency.get(name), key) for key in times)])
    return Table(["model", *columns.values(), *times.values()], rows)


def milliseconds(times: Mapping[str, object] | None, key: str) -> str:
    """Return a time as text; a dash if it was not measured."""
    value = (times or {}).get(key)
    return f"{value:,.0f} ms" if isinstance(value, (int, float)) else "–"


def cost_facts(results: Results) -> dict[str, str]:
    """Return the cost of the training, of all jobs up to it, and what tuning saves."""
    record = results.record
    facts = {"training": money(record.get("usd"))}
    if trained := record.get("trained_tokens"):
        facts["billed tokens"] = f"{trained:,}"
    facts |= cost_of_all_jobs(results)
    saved = results.evaluation.get("saved_prompt_tokens")
    if saved is not None:
        facts["prompt tokens saved per call"] = tokens(saved)
    if words := break_even_words(results):
        facts["break-even"] = words
    if costs := PROFILES[record["provider"]].deploys if record.get("provider") in PROFILES else None:
        facts["deployment, not counted here"] = costs
    return facts


def break_even_words(results: Results) -> str | None:
    """Return after how many calls the bill of the training is saved; None if nothing was paid, or a price is not known.

    The tuned model is compared with the base model with examples in its prompt: as measured, with evaluate.few_shot,
    else as `validate` counted the prompts.
    """
    usd, estimate = results.record.get("usd"), results.validation.get("break_even") if results.validation else None
    if "few_shot" in results.evaluation:
        measured = (results.evaluation["few_shot"], results.evaluation["tuned"])
        few_shot, tuned = (model.get("usd_per_1000", UNKNOWN) for model in measured)
        rival = "the base model with evaluate.few_shot examples in its prompt"
    elif estimate:
        few_shot, tuned = (estimate["usd_per_1000"][model] for model in ("few_shot", "tuned"))
        rival = f"the base model with {estimate['examples']} examples in its prompt, as estimated"
    else:
        return None
    calls = break_even(usd or UNKNOWN, few_shot, tuned)
    if calls == UNKNOWN:
        return None
    each = f"1,000 calls cost {money(tuned)} instead of {money(few_shot)}"
    if isinstance(calls, int):
        return f"after about {int(float(f'{calls:.2g}')):,} calls, compared with {rival}: {each}"
    return f"never, compared with {rival}: {each}"


def cost_of_all_jobs(results: Results) -> dict[str, str]:
    """Return the sum of the ledger up to this job: later jobs must not change the report of this fine-tune."""
    ledger = results.tables["ledger"]
    jobs = [row["job"] for row in ledger]
    job = results.record.get("job")
    if job not in jobs:
        return {}
    bills = [row["billed_usd"] for row in ledger[: jobs.index(job) + 1]]
    known = [float(bill) for bill in bills if is_known(bill)]
    unknown = f", and {len(bills) - len(known)} of unknown price" if len(known) < len(bills) else ""
    return {f"all jobs up to this one ({len(bills)})": f"{money(sum(known))}{unknown}" if known else "unknown"}
