"""A generated project with the extra `export` writes GGUF files, and llama.cpp's server answers from them."""

from pathlib import Path

import pytest
from conftest import Bake, Project, install_extras


@pytest.mark.slow
def test_gguf_files_answer(bake: Bake, binaries: Path, tmp_path: Path) -> None:
    path, overlay = bake(), tmp_path / "overlay"
    install_extras("export", path, binaries, overlay)
    project = Project(path, overlay / "bin", tmp_path / "home")
    done = project.run("python", "-m", "pytest", "-q", "tests/engine/test_export_gguf.py")
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
