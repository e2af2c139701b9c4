"""Two clients against the server of an installed project. `make clients` tries all of them."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_environment

FILES = ("test_curl.py", "test_openai_python.py")


@pytest.mark.slow
def test_curl_and_the_sdk(installed: Path) -> None:
    """The SDK is this environment's. Its fine-tunes and batches are in the project's own tests."""
    folder = ROOT / "tests" / "clients"
    command = [sys.executable, "-m", "pytest", "-q", *FILES, "-k", "not fine_tune and not batch"]
    environment = clean_environment(FINETUNE_PROJECT=str(installed))
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
