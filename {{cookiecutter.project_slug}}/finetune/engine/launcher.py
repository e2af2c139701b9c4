"""The launcher: the command that starts the trainer, by default this interpreter.

FINETUNE_ENGINE_LAUNCHER is a command after which `-m MODULE JOB_FOLDER` can stand, such as
`torchrun --nproc_per_node 2`; or one in which `{job}` stands for the job's folder.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finetune.engine.home import private

MODULE = "finetune.engine.training"
PROCESS_OPTIONS = ("nproc_per_node", "num_processes", "ntasks")
SHORT_OPTIONS = {"srun": ("-n",), "mpirun": ("-n", "-np"), "mpiexec": ("-n", "-np")}  # by program
MACHINE_OPTIONS = ("nnodes",)  # of torchrun, whose number of processes is that of one machine


class Asked(NamedTuple):
    """How many processes a launcher was asked for, and by which option."""

    processes: int
    option: str


def is_set() -> bool:
    return bool(os.environ.get("FINETUNE_ENGINE_LAUNCHER", "").strip())


def words() -> list[str]:
    """Return the launcher's command. Raises ValueError if it cannot be split into words."""
    return shlex.split(os.environ.get("FINETUNE_ENGINE_LAUNCHER", "")) or [sys.executable]


def command(job_folder: Path) -> list[str]:
    """Return the command that trains the job of a folder."""
    launcher = words()
    if any("{job}" in word for word in launcher):
        return [word.replace("{job}", str(job_folder)) for word in launcher]
    return [*launcher, "-m", MODULE, str(job_folder)]


def asked_processes(launcher: Sequence[str]) -> Asked | None:
    """Return how many processes a launcher is asked for; None if its options do not say a number."""
    launcher = [part for word in launcher for part in (word.split() if " " in word else [word])]  # of `bash -c '…'`
    short = {option for word in launcher for option in SHORT_OPTIONS.get(Path(word).name, ())}
    options: dict[str, Asked] = {}
    for word, following in zip(launcher, [*launcher[1:], ""], strict=True):
        name, is_joined, value = word.partition("=")
        value = value if is_joined else following
        key = "ntasks" if name in short else name.lstrip("-").replace("-", "_")
        if name.startswith("-") and value.isdecimal():
            options[key] = Asked(int(value), f"{name} {value}")
        elif name in ("--config_file", "--config-file"):
            options.setdefault("num_processes", asked_by_file(Path(value)))
    if any(Path(word).name == "accelerate" for word in launcher) and "--cpu" not in launcher:
        options.setdefault("num_processes", asked_by_file(accelerate_default()))
    found = next((options[key] for key in PROCESS_OPTIONS if key in options), None)
    machines = next((options[key] for key in MACHINE_OPTIONS if key in options), None)
    if found and machines and "nproc_per_node" in options:
        return Asked(found.processes * machines.processes, f"{machines.option} {found.option}")
    return found if found and found.processes else None


def accelerate_default() -> Path:
    """Return the configuration that `accelerate config` writes."""
    return Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "accelerate" / "default_config.yaml"


def asked_by_file(path: Path) -> Asked:
    """Return what a configuration of accelerate asks for; no process if it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content: Any = YAML(typ="safe").load(path.expanduser().read_text(encoding="utf-8"))
        return Asked(int(content["num_processes"]), f"num_processes of {path.name}")
    except (OSError, ValueError, KeyError, TypeError, YAMLError):
        return Asked(0, "")


def start(home: Path, arguments: Sequence[str], **environment: str) -> "subprocess.Popen[bytes]":
    """Start a command in its own session, so that it survives Ctrl-C and the end of this process.

    Workers and trainers need no API key but that of the service that gets a job's metrics.
    """
    own = {name: value for name, value in os.environ.items() if not name.endswith("_KEY") or name == "WANDB_API_KEY"}
    with open(home / "worker.log", "ab", opener=private) as log:
        return subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env={**own, "PYTHONHASHSEED": "0", **environment},  # a trainer without it starts itself once more
            **detached(),
        )


def detached() -> dict[str, Any]:
    """Return the options of Popen for a process that Ctrl-C and the end of the terminal do not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def last_line(home: Path) -> str:
    """Return the last line of the log of workers and trainers, which often is an error."""
    with open(home / "worker.log", "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
        lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it printed nothing.")
