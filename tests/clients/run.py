"""Install each client at a pinned version into a separate environment, and run its tests there.

Run it with: .venv/bin/python tests/clients/run.py [NAME ...]     without a name, all of them
The environments are in build/clients; one whose pins have not changed is used again. The server is the demo's.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parents[1] / "build" / "clients"
PYTEST = "pytest==9.2.0"
# What is installed in each environment, and the tests that run there.
CLIENTS_OF_PYPI = {
    "openai": (["openai==3.57.0"], ["test_openai_python.py", "test_openai_npm.py", "test_curl.py"]),
    "openai_cli": (["openai==2.20.0"], ["test_openai_cli.py"]),  # later versions have no command
    "litellm": (["litellm==1.110.2"], ["test_litellm.py"]),
    "langchain": (["langchain-openai==1.7.4"], ["test_langchain.py"]),
    "instructor": (["instructor==1.17.0"], ["test_instructor.py"]),
    "llm": (["llm==0.36"], ["test_llm.py"]),
    "inspect": (["inspect-ai==0.3.285", "openai==3.57.0"], ["test_inspect.py"]),
    # transformers for its tokenizers: torch is not installed.
    "lm_eval": (["lm-eval[api]==0.4.13", "transformers==5.24.0"], ["test_lm_eval.py"]),
}
CLIENT_OF_NPM = "openai@7.59.0"


def install(name: str, packages: list[str]) -> Path:
    """Return the interpreter of a client's environment, which is made if its pins have changed."""
    folder = CLIENTS / name
    pins = "\n".join([*packages, PYTEST])
    if not (folder / "pins").exists() or (folder / "pins").read_text() != pins:
        shutil.rmtree(folder, ignore_errors=True)
        uv = Path(sys.executable).with_name("uv")
        python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *packages, PYTEST], check=True)
        (folder / "pins").write_text(pins)
    return folder / "bin" / "python"


def install_npm() -> None:
    """Install the client of npm; without npm, its tests are skipped."""
    folder = CLIENTS / "npm"
    if shutil.which("npm") and not (folder / CLIENT_OF_NPM).exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", CLIENT_OF_NPM], cwd=folder, check=True)
        (folder / CLIENT_OF_NPM).touch()


def main() -> None:
    names = sys.argv[1:] or list(CLIENTS_OF_PYPI)
    install_npm()
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    results = []
    for name in names:
        packages, files = CLIENTS_OF_PYPI[name]
        python = install(name, packages)
        start = time.monotonic()
        command = [python, "-m", "pytest", "-q", *(str(HERE / file) for file in files)]
        code = subprocess.run(command, cwd=HERE, env=environment, check=False).returncode
        results.append((name, packages[0], "passed" if code == 0 else "FAILED", time.monotonic() - start))
    for name, package, result, seconds in results:
        print(f"{name:12} {package:26} {result:8} {seconds:4.0f} s")
    sys.exit(any(result != "passed" for _, _, result, _ in results))


if __name__ == "__main__":
    main()
