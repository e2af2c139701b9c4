"""Is the tuned model as good as a model that was shut down, whose answers were recorded?"""

from collections.abc import Sequence
from typing import Any

from finetune.core.records.answers import Prediction, RecordedAnswer
from finetune.core.records.evaluation import Metrics
from finetune.core.sections.evaluate import Rescued


def add_verdict(
    found: Metrics,
    metric: str,
    settings: Rescued,
    recorded: Sequence[RecordedAnswer],
    rows: Sequence[Prediction],
) -> None:
    """Add to the rescued model's metrics `model`, `margin`, `kept` and `verdict`; `lift` is that of tuned over it.

    `kept` is 1 if the lower end of the difference's 95 % interval is above the margin below 0.
    """
    lift: dict[str, Any] = found["lift"]
    kept = lift[f"{metric}_low"] >= -settings.margin
    how = "as good within" if kept else "not shown to be as good within"
    if lift[f"{metric}_high"] < -settings.margin:
        how = "worse by more than"
    words = [f"{how} the margin of {settings.margin:g}", lift["verdict"]]
    trained = sum(bool(row.get("trained")) for row in recorded)
    if trained:
        words.append(f"it was trained on {trained:,} of these {len(rows):,} rows, which favours it")
    own = sum(bool(row.get("is_expected")) for row in recorded)
    if own:
        words.append(f"the right answers of {own:,} rows are its own, which tuned is scored by there")
    found |= {
        "model": settings.model,
        "margin": settings.margin,
        "kept": int(kept),
        "cut": sum("cut" in row for row in rows),
        "verdict": "; ".join(words),
    }
