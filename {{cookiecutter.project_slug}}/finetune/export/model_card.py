"""README.md of an exported folder: a model card, with its head in the form of the Hugging Face hub."""

import json
from collections.abc import Sequence

from finetune.core.export_formats import ADAPTER, MERGED
from finetune.core.records.exports import ExportScores
from finetune.core.records.training import ModelRecord
from finetune.export.base_folder import hub_name


def model_card(
    name: str,
    record: ModelRecord,
    base: str,
    scores: ExportScores,
    tuned: float,
    data: str | None,
    commit: str,
    n: int,
    serve: Sequence[str],
) -> str:
    """Return the card of a format.

    `tuned` is the score of the measured model on the same `n` test rows, and `serve` the lines of the last section.
    """
    base, revision = hub_name(base)
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
        *serve,
    ]
    return "\n".join(lines).rstrip() + "\n"


def library(name: str) -> str:
    return {ADAPTER: "peft", MERGED: "transformers"}.get(name, "gguf")
