"""The lineage of a model: its job, its base and its data."""

from finetune.core.records.prepared import PrepareReport
from finetune.core.records.training import FilesRecord, ModelRecord
from finetune.report.stage_outputs import Results


def lineage_facts(record: ModelRecord, files: FilesRecord, prepared: PrepareReport | None) -> dict[str, str]:
    """Return what a model was made from, by name. Unknown facts are left out: older records have fewer keys."""
    chosen = record.get("chosen")
    counts = {split: prepared.get(split) for split in ("train", "valid", "test")} if prepared else {}
    counts["replay"] = files["train"].get("replay") if "train" in files else None
    facts = {
        "model": record["model"],
        "base": record["base"],
        "trained from": ", ".join(record.get("lineage", [])) or "the base model",
        "provider": record.get("provider"),
        "method": record.get("method"),
        "job": record["job"],
        "checkpoint": chosen and (f"step {chosen['step']}: {chosen['why']}" if chosen.get("step") else chosen["why"]),
        "hyperparameters": ", ".join(f"{name} {value}" for name, value in sorted(record["hyperparameters"].items())),
        "seed": record["seed"],
        "suffix": record.get("suffix"),
        "examples": ", ".join(f"{count:,} {split}" for split, count in counts.items() if isinstance(count, int)),
        "training data, SHA-256": files["train"]["sha256"] if "train" in files else None,
        "fingerprint": record["fingerprint"],
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def lineage_of(results: Results) -> dict[str, str]:
    """Return the lineage of this fine-tune, with the commit before it."""
    facts = lineage_facts(results.record, results.files, results.prepared)
    return facts | {"parent commit": results.commit or "none yet"}
