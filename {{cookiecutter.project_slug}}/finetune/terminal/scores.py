"""Tables of scores: a column for each model, a row for each metric."""

from typing import Any

from finetune.terminal.tables import print_table


def print_scores(report: dict[str, Any]) -> None:
    """Each model's metrics, what tuning was worth, and what is not good enough."""
    metric = report["metric"]
    models = sorted((name for name in report if f"{metric}_low" in told(report, name)), key=place)
    print_figures({name: report[name] for name in models if not name.startswith("lift")}, metric)
    print(f"tuned against base: {report['lift']['verdict']}")
    for name, found in report["also"].items():
        print(f"{name}: tuned against base: {found['verdict']}")
    if "judge" in report:
        print(f"tuned: {report['judge']['verdict']}")
    for failed in report["gates_failed"]:
        print(f"not good enough: {failed}")


def told(report: dict[str, Any], name: str) -> dict[str, Any]:
    return report[name] if isinstance(report[name], dict) else {}


def place(name: str) -> int:
    """Base models first, the tuned one last."""
    return {"base": 0, "few_shot": 1, "tuned": 3}.get(name, 2)


def print_figures(columns: dict[str, dict[str, Any]], metric: str) -> None:
    """A column for each model, a row for each of the last one's figures, `metric` first."""
    hidden = ("_low", "_high", "signature", "revision")
    keys = [key for key in list(columns.values())[-1] if not key.endswith(hidden)]
    rows = [
        [key.replace("_", " "), *(shown(one, key) for one in columns.values())]
        for key in sorted(keys, key=lambda key: key != metric)
    ]
    print_table(["", *columns], rows)


def shown(metrics: dict[str, Any], key: str) -> str | None:
    """A figure, with its interval where it has one."""
    value = metrics.get(key)
    if f"{key}_low" in metrics:
        return f"{value:.3f} ({metrics[f'{key}_low']:.3f} to {metrics[f'{key}_high']:.3f})"
    return f"{value:.3f}" if isinstance(value, float) else str(value) if value is not None else None
