"""Export the model of two starters to all formats, and compare what is exported with what was measured.

Run it by itself, in an environment with the extra `export`: `make bench` has not installed its packages.
"""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from common import environment, use_demo
from pipeline import generate_project

STARTERS = ("classify", "extract")
FORMATS = ("adapter", "merged", "gguf-bf16", "gguf-q8_0", "gguf-q4_k_m")
HEAD = ("export", "score", "equal answers", "difference (95 % interval)", "log-probabilities", "size", "tokens/s")


def main() -> None:
    use_demo()
    for starter in STARTERS:
        with tempfile.TemporaryDirectory() as folder:
            project = generate_project(starter, Path(folder))
            params = project / "params.yaml"
            text = params.read_text(encoding="utf-8")
            params.write_text(text.replace("formats: []", f"formats: [{', '.join(FORMATS)}]"), encoding="utf-8")
            subprocess.run(
                ["dvc", "repro", "-q"], cwd=project, env=environment(project, Path(folder) / "home"), check=True
            )
            print_table(starter, project)


def print_table(starter: str, project: Path) -> None:
    """Print what a project's exports answer, as a Markdown table."""
    report, speeds = (
        json.loads((project / name).read_text(encoding="utf-8"))
        for name in ("reports/export.json", "reports/export_speed.json")
    )
    print(f"\n{starter}, {report['n']} test rows; the tuned model: {report['tuned']:.3f}\n")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name, one in report["export"].items():
        print(f"| {' | '.join(cells(name, one, speeds[name]))} |")


def cells(name: str, one: dict[str, Any], speed: dict[str, float]) -> list[str]:
    """Return a format's row."""
    between = f"({one['difference_low']:+.3f} to {one['difference_high']:+.3f})"
    apart = f"{one['logprob_difference']:.4f}" if "logprob_difference" in one else "–"
    size, rate = f"{one['bytes'] / 1e6:,.0f} MB", f"{speed.get('tokens_per_second', 0):.1f}"
    return [
        name,
        f"{one['score']:.3f}",
        f"{one['agreement']:.1%}",
        f"{one['difference']:+.3f} {between}",
        apart,
        size,
        rate,
    ]


if __name__ == "__main__":
    main()
