"""The text that export prints when it has finished."""

from finetune.core.paths import EXPORTS
from finetune.core.records.exports import ExportReport


def export_summary(report: ExportReport) -> str:
    """Return a line for each format: its size and how its answers compare with those of the measured model."""
    if not report["export"]:
        return "export: export.formats is empty, so nothing is exported"
    lines = [
        f"export: {EXPORTS / name} ({one['bytes'] / 1e6:,.1f} MB): {one['metric']} {one['score']:.3f}, {one['verdict']}"
        for name, one in report["export"].items()
    ]
    failed = [f"export: not met: {one}" for one in report.get("gates_failed", [])]
    return "\n".join([*lines, *failed, "export: README.md in each folder has the commands that serve it and ask it"])
