"""Export the model of two starters to all formats, compare what is exported with what was measured, and time it.

Run it by itself, in an environment with the extra `export`: `make bench` has not installed its packages. Names of
starters as arguments select some of them. Speeds are ratios to the merged weights in the same rounds, because other
work on the machine changes the tokens per second of all.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import environment, use_demo
from pipeline import generate_project

STARTERS = ("classify", "extract")
FORMATS = ("adapter", "merged", "gguf-bf16", "gguf-q8_0", "gguf-q4_k_m")
RIVAL = "merged"
ROUNDS, ROWS = 3, 10
HEAD = (
    "export",
    "equal answers",
    "score",
    "difference (95 % interval)",
    "p",
    "within the margin",
    "log-probabilities",
    "size",
    f"tokens/s, × {RIVAL}",
)


def main() -> None:
    use_demo()
    for starter in sys.argv[1:] or STARTERS:
        with tempfile.TemporaryDirectory() as folder:
            project, home = generate_project(starter, Path(folder)), Path(folder) / "home"
            params = project / "params.yaml"
            text = params.read_text(encoding="utf-8")
            params.write_text(text.replace("formats: []", f"formats: [{', '.join(FORMATS)}]"), encoding="utf-8")
            subprocess.run(["dvc", "repro", "-q"], cwd=project, env=environment(project, home), check=True)
            print_table(starter, project, speeds(project, home))


def speeds(project: Path, home: Path) -> dict[str, list[float]]:
    """Return the tokens per second of each format in each round. All formats are asked the same rows in turn."""
    from finetune.core.params import load_params
    from finetune.core.paths import EXPORTS
    from finetune.core.read_records import read_model_record
    from finetune.export.measure import measure, speed_of
    from finetune.project.export_manifest import files_of
    from finetune.stages.export import measured_model

    os.chdir(project)
    os.environ["FINETUNE_HOME"] = str(home)
    model = measured_model(load_params(), read_model_record())
    model = dataclasses.replace(model, examples=model.examples[:ROWS], rows=model.rows[:ROWS])
    found: dict[str, list[float]] = {name: [] for name in FORMATS}
    for number in range(ROUNDS):
        os.environ["FINETUNE_HOME"] = str(home / f"round-{number}")  # where no answers are kept
        for name in FORMATS:
            rows = measure(name, EXPORTS / name, files_of(EXPORTS / name), model)
            found[name].append(speed_of(rows)["tokens_per_second"])
    os.chdir("/")
    return found


def print_table(starter: str, project: Path, rates: dict[str, list[float]]) -> None:
    """Print what a project's exports answer, as a Markdown table."""
    report = json.loads((project / "reports/export.json").read_text(encoding="utf-8"))
    print(f"\n{starter}, {report['n']} test rows; the tuned model: {report['tuned']:.3f}\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in FORMATS:
        print(f"| {' | '.join(cells(name, report['export'][name], report['n'], rates))} |")


def cells(name: str, one: dict[str, Any], n: int, rates: dict[str, list[float]]) -> list[str]:
    """Return a format's row."""
    between = f"({one['difference_low']:+.3f} to {one['difference_high']:+.3f})"
    times = statistics.median(a / b for a, b in zip(rates[name], rates[RIVAL], strict=True))
    return [
        name,
        f"{round(one['agreement'] * n)} of {n}",
        f"{one['score']:.3f}",
        f"{one['difference']:+.3f} {between}",
        f"{one['p_value']:.2g}",
        f"{'yes' if one['kept'] else 'not shown'} ({one['margin']:g})",
        f"{one['logprob_difference']:.4f}" if "logprob_difference" in one else "–",
        f"{one['bytes'] / 1e6:,.0f} MB",
        f"{statistics.median(rates[name]):.0f}, × {times:.1f}",
    ]


if __name__ == "__main__":
    main()
