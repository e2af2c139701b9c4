"""Fine-tune a language model with `dvc repro`: every dataset, job, model, cost and metric is a commit."""
