"""A generated project with the extra `export` writes GGUF files, and llama.cpp's server answers from them."""

import subprocess
from pathlib import Path

from conftest import Bake, Project, clean_environment


def test_gguf_files_answer(bake: Bake, binaries: Path, tmp_path: Path) -> None:
    path, overlay = bake(), tmp_path / "overlay"
    subprocess.run([binaries / "python", "-m", "venv", "--without-pip", overlay], check=True, env=clean_environment())
    shared, own = (next((folder / "lib").glob("python*/site-packages")) for folder in (binaries.parent, overlay))
    (own / "shared.pth").write_text(f"import site; site.addsitedir({str(shared)!r})\n", encoding="utf-8")
    install = ["install", "--quiet", "--no-compile", "-e", ".[export]", "-c", "constraints.txt"]
    pip = [binaries / "python", "-m", "pip", "--disable-pip-version-check", "--python", overlay / "bin" / "python"]
    subprocess.run([*pip, *install], cwd=path, check=True, env=clean_environment(), stderr=subprocess.DEVNULL)
    project = Project(path, overlay / "bin", tmp_path / "home")
    done = project.run("python", "-m", "pytest", "-q", "tests/engine/test_export_gguf.py")
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
