"""Find out how this system can isolate a process: from other processes, and from the network."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.scoring.graders.confinement import landlock_version

# Containers often have these programs, but forbid what they do: only a trial shows it.
TRIAL_SECONDS = 60.0  # so long that a busy computer does not turn the isolation off
TRIAL = (
    "import os; print(os.readlink('/proc/self/ns/pid'), os.readlink('/proc/self/ns/net'),"
    " os.readlink('/proc/self') == str(os.getpid()))"
)
# /run has the sockets of services, such as Docker's, which need no network.
UNSHARE = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--net", "--ipc", "--mount-proc"]
HIDE_RUN = 'mount -t tmpfs tmpfs /run && exec "$@"'


def commands(folder: Path) -> list[list[str]]:
    """Return the commands that may start a program in new namespaces, in `folder`; the best first."""
    found = []
    if bwrap := shutil.which("bwrap"):
        found.append([bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/"])
        found[-1] += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/run"]
        found[-1] += ["--bind", str(folder), str(folder), "--chdir", str(folder), "--"]
    if unshare := shutil.which("unshare"):
        found.append([unshare, *UNSHARE, "sh", "-c", HIDE_RUN, "sh"])
    return found if sys.platform == "linux" else []


@functools.cache
def working_command() -> int | None:
    """Return the place in `commands` of the first that works on this system; None if none does."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        for place, command in enumerate(commands(Path(name))):
            try:
                found = subprocess.run(
                    [*command, sys.executable, "-I", "-c", TRIAL],
                    cwd=name,
                    env={},
                    capture_output=True,
                    text=True,
                    timeout=TRIAL_SECONDS,
                )
            except (OSError, subprocess.TimeoutExpired):
                continue
            seen = found.stdout.split()
            ours = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net")]
            if found.returncode == 0 and len(seen) == 3 and seen[2] == "True" and not set(seen[:2]) & set(ours):
                return place
    return None


def isolating(folder: Path) -> list[str]:
    """Return the command to put before a program's, so that it runs isolated in `folder`; [] if none works."""
    place = working_command()
    return [] if place is None else commands(folder)[place]


def trust_warning(definitions: Mapping[str, Any]) -> str | None:
    """Return what to say of python graders where they cannot be isolated; None without one, or where they can."""
    singles = [one for grader in definitions.values() for one in [grader, *dict(grader.get("graders") or {}).values()]]
    if not any(one.get("type") == "python" for one in singles):
        return None
    missing, reached = [], []
    if working_command() is None:
        missing, reached = ["namespaces (bwrap or unshare)"], ["network"]
    if not landlock_version():
        missing.append("Landlock")
        reached += ["files", "keys"]
    if not missing:
        return None
    return (
        f"this system has no working {' and no '.join(missing)}, so python graders may reach your"
        f" {', '.join(reached)}. Use only graders that you trust, and none that runs the answers as code."
    )
