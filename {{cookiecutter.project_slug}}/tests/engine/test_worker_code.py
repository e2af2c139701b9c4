"""A worker outlives the project that started it, such as a workspace of `dvc exp run --temp`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from conftest import start_job, wait

from finetune.engine.store import Store
from finetune.engine.worker_launcher import copy_of_code

PACKAGE = Path(__file__).parents[2] / "finetune"

# Start a worker, and delete its project before it has imported anything.
START_AND_DELETE = """
import shutil, sys
from pathlib import Path
from finetune.engine import worker_launcher
from finetune.engine.store import Store
assert worker_launcher.__file__.startswith(sys.argv[1])
worker_launcher.start_worker(Store(Path(sys.argv[2])))
shutil.rmtree(sys.argv[1])
"""


@pytest.mark.slow
def test_a_job_is_trained_when_the_project_of_its_worker_is_deleted(
    client: openai.OpenAI, home: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(PACKAGE, workspace / "finetune", ignore=shutil.ignore_patterns("__pycache__"))
    waiting = Store(home)
    job = start_job(client, epochs=1)
    assert wait(client, job.id).status == "succeeded"
    waiting.execute("UPDATE jobs SET status = 'queued' WHERE id = ?", job.id)
    subprocess.run(
        [sys.executable, "-c", START_AND_DELETE, str(workspace), str(home)],
        env={**os.environ, "PYTHONPATH": str(workspace)},
        cwd=tmp_path,
        check=True,
    )
    assert not workspace.exists()
    ended = wait(client, job.id)
    assert ended.status == "succeeded", ended.error


def test_the_code_is_copied_once_for_each_version(tmp_path: Path) -> None:
    first = copy_of_code(tmp_path)
    assert copy_of_code(tmp_path) == first
    assert [path.name for path in (tmp_path / "code").iterdir()] == [first.name]
    assert {path.name for path in (first / "finetune").iterdir()} == {"__init__.py", "engine"}
    engine = first / "finetune/engine"
    copied = {path.relative_to(engine) for path in engine.rglob("*.py")}
    assert copied == {path.relative_to(PACKAGE / "engine") for path in (PACKAGE / "engine").rglob("*.py")}
