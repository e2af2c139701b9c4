"""Say how probable the preferred answers of the test pairs are to each model."""

from finetune.core.records.evaluation import PreferenceResult


def preference_sentences(found: PreferenceResult) -> list[str]:
    """Return the result in words, one fact a sentence."""
    if not found["pairs"]:
        return [f"The margin of the preferred answers was {found['verdict']}."]
    sentences = [
        f"In {found['tuned']:.3f} of {found['pairs']:,} test pairs the preferred answer is more probable than the other"
        f" one (tuned), against {found['base']:.3f} (base).",
        f"The preferred answer's log-probability is above the other's by {found['tuned_margin']:+.2f} on average"
        f" (tuned), against {found['base_margin']:+.2f} (base).",
        f"Tuned against base: {found['verdict']}.",
    ]
    if left_out := found["not_measured"]:
        sentences.append(f"{left_out:,} pairs without log-probabilities are left out.")
    return sentences
