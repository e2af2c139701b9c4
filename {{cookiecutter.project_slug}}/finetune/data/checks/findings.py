"""Findings, and the three forms of a report: for people, for programs, and for GitHub."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.core.counted import counted
from finetune.core.records.checks import CheckReport, FindingRecord
from finetune.data.checks.rule import Severity

MOST_OF_A_CODE = 20  # findings in the report for people
NAMES_IN_MESSAGE = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake. `line` counts from 1; 0 is the whole file."""

    code: str
    severity: Severity
    file: str
    line: int
    message: str
    fix: str

    def record(self) -> FindingRecord:
        return {
            "code": self.code,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "message": self.message,
            "fix": self.fix,
        }


def report_of(examples: int, findings: Sequence[Finding]) -> CheckReport:
    """Return the report on `examples` examples, with the findings in their order."""
    severities = Counter(finding.severity for finding in findings)
    return {
        "examples": examples,
        "errors": severities["error"],
        "warnings": severities["warning"],
        "findings": [finding.record() for finding in findings],
    }


def as_text(report: CheckReport) -> str:
    """Return the report for people: a line for each finding, at most 20 of a code, and the counts."""
    lines, times = [], Counter[str]()
    for finding in report["findings"]:
        times[finding["code"]] += 1
        if times[finding["code"]] <= MOST_OF_A_CODE:
            lines.append(finding_text(finding))
    for code, number in times.items():
        if number > MOST_OF_A_CODE:
            lines.append(f"… and {number - MOST_OF_A_CODE} more of {code} (--format json prints all)")
    counts = [counted(report["errors"], "error"), counted(report["warnings"], "warning")]
    return "\n".join([*lines, f"{counted(report['examples'], 'example')}: {', '.join(counts)}"])


def finding_text(finding: FindingRecord) -> str:
    where = f"{finding['file']}:{finding['line']}" if finding["line"] else finding["file"]
    return f"{where}: {finding['severity']} {finding['code']}: {finding['message']} → {finding['fix']}"


def as_github(report: CheckReport) -> str:
    """Return the report as workflow commands, which GitHub shows at the lines of a pull request."""

    def escaped(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    return "\n".join(
        f"::{f['severity']} file={escaped(f['file']).replace(',', '%2C').replace(':', '%3A')},line={max(1, f['line'])},"
        f"title={f['code']}::{escaped(f['message'])} → {escaped(f['fix'])}"
        for f in report["findings"]
    )


def as_json(report: CheckReport) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False)


def first_names(names: Sequence[str]) -> str:
    """Return the first ten names for a message."""
    return ", ".join([*names[:NAMES_IN_MESSAGE], *(["…"] if len(names) > NAMES_IN_MESSAGE else [])])
