"""Fine-tune a language model with `dvc repro`, and know what it cost and whether it was worth it."""
