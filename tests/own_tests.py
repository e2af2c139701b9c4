"""Run the commands of a generated project, such as its own tests."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import clean_environment

PYTEST = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider")


def run_together(project: Path, binaries: Path, commands: list[list[str]]) -> None:
    """Run commands in a project, a few more at a time than there are cores: some wait for calls that hang.

    Every one must succeed.
    """
    environment = clean_environment(PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}")

    def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
        out, err = subprocess.PIPE, subprocess.STDOUT
        return subprocess.run(command, cwd=project, env=environment, stdout=out, stderr=err, text=True, check=False)

    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        failed = [done.stdout for done in pool.map(run, commands) if done.returncode]
    assert not failed, "\n".join(failed)
