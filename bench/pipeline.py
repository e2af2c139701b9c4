"""Time the first `dvc repro`: of the demo twice, whose results must be the same bytes, and of the other starters."""

import hashlib
import json
import subprocess
import tempfile
import time
from pathlib import Path

from common import DEMO, ROOT, environment, use_demo

STARTERS = ("extract", "generate")  # the demo is of the starter classify
HASHED = ("models/weights/adapter_model.safetensors", "predictions/base.jsonl", "predictions/tuned.jsonl")


def clone_first_commit(folder: Path) -> Path:
    """Clone the demo into `folder` at its first commit, without caches, and return the clone."""
    project = folder / "project"
    subprocess.run(["git", "clone", "-q", str(DEMO), str(project)], check=True)
    git = {"cwd": project, "check": True, "capture_output": True, "text": True}
    first = subprocess.run(["git", "rev-list", "--max-parents=0", "HEAD"], **git).stdout.split()[0]
    subprocess.run(["git", "checkout", "-q", first], **git)
    return project


def generate_project(starter: str, folder: Path) -> Path:
    """Generate a project from a starter in `folder`, commit it, and return it."""
    cookiecutter = [ROOT / ".venv" / "bin" / "cookiecutter", ROOT, "--no-input", "-o", folder, f"starter={starter}"]
    subprocess.run(cookiecutter, check=True, stdout=subprocess.DEVNULL)
    project = folder / "my-fine-tune"
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for command in (["add", "."], ["commit", "-qm", "Start"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    return project


def time_repro(project: Path, home: Path) -> str:
    """Run `dvc repro` with an empty `home`, and describe it: seconds, and the score before and after."""
    start = time.monotonic()
    subprocess.run(["dvc", "repro", "-q"], cwd=project, env=environment(project, home), check=True)
    seconds = time.monotonic() - start
    evaluation = json.loads((project / "reports" / "evaluation.json").read_text(encoding="utf-8"))
    metric, p_value = evaluation["metric"], evaluation["lift"]["p_value"]
    base, tuned = (evaluation[model][metric] for model in ("base", "tuned"))
    return f"{seconds:.0f} s; {metric} {base:.3f} → {tuned:.3f} on {evaluation['n']} test rows, p = {p_value:g}"


def run_demo() -> dict[str, str]:
    """Run the demo from nothing, print its line, and return the SHA-256 of its adapter and of its answers."""
    with tempfile.TemporaryDirectory() as folder:
        project = clone_first_commit(Path(folder))
        print(f"- `dvc repro` from nothing: {time_repro(project, Path(folder) / 'home')}")
        return {name: hashlib.sha256((project / name).read_bytes()).hexdigest() for name in HASHED}


def main() -> None:
    use_demo()
    first, second = run_demo(), run_demo()
    for name, digest in first.items():
        print(f"- `{name}` is the same in both runs: {digest == second[name]} (SHA-256 {digest[:16]}…)")
    for starter in STARTERS:
        with tempfile.TemporaryDirectory() as folder:
            project = generate_project(starter, Path(folder))
            result = time_repro(project, Path(folder) / "home")
        print(f"- `dvc repro` of the starter {starter}, from nothing: {result}")


if __name__ == "__main__":
    main()
