"""The models and the metrics of an evaluation: their order and their names in the report."""

from finetune.core.evaluated_models import floor_title, get_model, is_floor, models_in
from finetune.core.records.evaluation import Evaluation, Metrics

# The models that have a colour in style.css, and their names in legends.
MAIN_MODELS = {"base": "base model", "tuned": "tuned model"}
SHORT = {"floors.majority": "frequent class", "floors.tfidf": "TF-IDF", "floors.limited": "base, limited"}
SHORT |= {"floors.nearest": "nearest", "floors.copy": "copy"}
USAGE = {
    "prompt_tokens": "prompt tokens",
    "cached_tokens": "of these cached",
    "completion_tokens": "answer tokens",
    "usd_per_1000": "$ per 1,000 calls",
    "usd_per_1000_batch": "$ per 1,000 calls by batch",
}
NO_METRICS = (*USAGE, "margin", "kept")  # the last two are of a rescued model
METRIC_NAMES = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "bleu": "BLEU",
    "chrf": "chrF",
    "chrf_corpus": "chrF of all",
    "f1": "F1",
    "cut": "answers cut at the maximum length",
    "failed": "rows without an answer",
    "lenient": "answers whose class is not written exactly",
    "refused": "answers that are refusals",
    "n_unanswerable": "unanswerable rows",
    "no_class": "answers that name no class, or several",
    "no_logprobs": "rows without log-probabilities",
    "outside": "probability outside the classes",
    "unseen": "rows whose right class is among no log-probabilities",
    "rouge_l": "ROUGE-L",
    "json_found": "JSON found",
    "strict_json": "strict JSON and nothing else",
    "valid_json": "valid JSON",  # in evaluations of earlier versions
}
COUNTS = ("unseen", "failed", "refused", "cut")  # at the end, and only where a model has some
LOWER_IS_BETTER = ("log_loss", "calibration_error", "outside", "lenient", "no_class")
OF_ONE_CLASS = ("precision", "recall", "f_beta", "auroc", "auprc")  # where there are two classes
CHECKPOINTS, COMPARED, FIELDS = "checkpoints.", "compared.", "fields."  # prefixes of names that a user gave


def models(evaluation: Evaluation) -> dict[str, Metrics]:
    """Return the metrics of all models by their names in tables: base first, tuned last."""
    return {name: get_model(evaluation, name) for name in models_in(evaluation)}


def numbers(model: Metrics) -> dict[str, float]:
    """Return the numbers among a model's metrics without intervals and usage. The F1 of a field is `fields.<field>`."""
    own = {
        name: value
        for name, value in model.items()
        if isinstance(value, (int, float)) and not name.endswith(("_low", "_high")) and name not in NO_METRICS
    }
    # A field may be called like an interval: its name is not looked at.
    return own | {FIELDS + field: value for field, value in model.get("fields", {}).items()}


def metrics(evaluation: Evaluation) -> list[str]:
    """Return the names of all metrics, the first metric first. Intervals and usage are left out."""
    found = [numbers(model) for model in models(evaluation).values()]
    names = list(dict.fromkeys(name for model in found for name in model))
    names = [name for name in names if name not in COUNTS or any(model.get(name) for model in found)]
    return sorted(names, key=lambda name: (name != evaluation["metric"], name in COUNTS))


def metric_label(name: str) -> str:
    """Return a metric's name as people write it."""
    if name.startswith(FIELDS):
        return f"F1 of {name.removeprefix(FIELDS)}"
    words = METRIC_NAMES.get(name) or name.replace("_f1", " F1").replace("_", " ")
    return f"{words} (lower is better)" if name in LOWER_IS_BETTER else words


def metric_title(evaluation: Evaluation, name: str) -> str:
    """Return a metric's name, with the class that it is about where that is one of two."""
    positive = evaluation["tuned"].get("positive_class")
    words = metric_label(name)
    return f"{words} of “{positive}”" if positive is not None and name in OF_ONE_CLASS else words


def model_label(name: str) -> str:
    """Return a model's name as people write it. A compared model called `base` is shown as `base (compared)`."""
    if name.startswith(COMPARED):
        given = name.removeprefix(COMPARED)
        return f"{given} (compared)" if given in MAIN_MODELS else given
    if is_floor(name):
        return floor_title(name)
    if name.startswith(CHECKPOINTS):
        return f"checkpoint {name.removeprefix(CHECKPOINTS)}"
    return name.replace("_", " ")


def short_label(name: str) -> str:
    """Return a model's name for the head of a column."""
    return SHORT.get(name) or model_label(name)


def tone(model: str) -> str:
    """Return the class in style.css that colours a model."""
    return model if model in MAIN_MODELS else "plain"
