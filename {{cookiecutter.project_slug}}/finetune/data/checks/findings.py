"""Findings, and the three forms in which they are told: to people, to programs, and to GitHub."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune.data.checks.rules import Severity

SHOWN = 20  # findings of one kind in the text report


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake: `line` counts from 1, 0 stands for the whole file."""

    code: str
    severity: Severity
    file: str
    line: int
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.severity} {self.code}: {self.message} → {self.fix}"


def report_of(examples: int, findings: Sequence[Finding]) -> dict[str, Any]:
    """The report: `examples`, `errors`, `warnings` as counts, and `findings` in their order."""
    severities = Counter(finding.severity for finding in findings)
    return {
        "examples": examples,
        "errors": severities["error"],
        "warnings": severities["warning"],
        "findings": [asdict(finding) for finding in findings],
    }


def as_text(report: dict[str, Any]) -> str:
    """The report for people: each finding on a line, at most twenty of a kind, and the sums."""
    lines, told = [], Counter[str]()
    for values in report["findings"]:
        told[values["code"]] += 1
        if told[values["code"]] <= SHOWN:
            lines.append(str(Finding(**values)))
    for code, times in told.items():
        if times > SHOWN:
            lines.append(f"… and {times - SHOWN} more of {code} (--format json has them all)")
    counts = [counted(report["errors"], "error"), counted(report["warnings"], "warning")]
    return "\n".join([*lines, f"{counted(report['examples'], 'example')}: {', '.join(counts)}"])


def as_github(report: dict[str, Any]) -> str:
    """The report as workflow commands, which GitHub shows at the lines of a pull request."""

    def escaped(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    return "\n".join(
        f"::{f['severity']} file={escaped(f['file']).replace(',', '%2C').replace(':', '%3A')},line={max(1, f['line'])},"
        f"title={f['code']}::{escaped(f['message'])} → {escaped(f['fix'])}"
        for f in report["findings"]
    )


def as_json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
