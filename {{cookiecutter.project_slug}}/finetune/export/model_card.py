"""README.md of an exported folder: a model card, with its head in the form of the Hugging Face hub."""

import json

from finetune.core.export_formats import ADAPTER, MERGED, is_gguf
from finetune.core.records import ExportScores, ModelRecord
from finetune.export.base_folder import hub_name
from finetune.export.gguf import FILE


def model_card(
    name: str,
    record: ModelRecord,
    scores: ExportScores,
    tuned: float,
    data: str | None,
    commit: str,
    n: int,
    has_modelfile: bool,
) -> str:
    """Return the card of a format. `tuned` is the score of the measured model on the same `n` test rows."""
    base, revision = hub_name(record["base"])
    head = {"base_model": base, "library_name": library(name), "tags": ["fine-tuned", name]}
    facts = {
        "format": name,
        "base": f"{base} at revision {revision}" if revision else base,
        "model": record["model"],
        "job": record["job"],
        "fingerprint of data and settings": record["fingerprint"],
        "SHA-256 of the training file": data or "unknown",
        "commit of the project": commit or "unknown",
        "license": "that of the base, and of the data that it was trained on",
    }
    metric = scores["metric"]
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        "",
        f"# {record['model']} ({name})",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        "## Measured",
        "",
        f"On {n:,} test rows, asked of these files:",
        "",
        f"| {metric} | 95 % interval | equal answers | difference to the measured model | 95 % interval |",
        "|--:|--:|--:|--:|--:|",
        f"| {scores['score']:.3f} | {scores['low']:.3f} – {scores['high']:.3f} | {scores['agreement']:.1%} "
        f"| {scores['difference']:+.3f} | {scores['difference_low']:+.3f} – {scores['difference_high']:+.3f} |",
        "",
        f"The model that was measured has {metric} {tuned:.3f}. {scores['verdict']}.",
        "",
        "## Intended use",
        "",
        "The task of its training data, with the same system prompt and chat template. Nothing else was measured here.",
        "",
        "## Serve",
        "",
        "```",
        *commands(name, base, has_modelfile),
        "```",
    ]
    return "\n".join(lines) + "\n"


def library(name: str) -> str:
    return {ADAPTER: "peft", MERGED: "transformers"}.get(name, "gguf")


def commands(name: str, base: str, has_modelfile: bool) -> list[str]:
    """Return the commands that serve a format, in its folder."""
    if is_gguf(name):
        ollama = ["ollama create tuned -f Modelfile && ollama run tuned"] if has_modelfile else []
        return [f"llama-server -m {FILE} --jinja", *ollama]
    if name == ADAPTER:
        return [f"vllm serve {base} --enable-lora --lora-modules tuned=."]
    return ["vllm serve ."]
