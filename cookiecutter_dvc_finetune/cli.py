"""Generate a project from the template in this package. The options are the questions of cookiecutter.json."""

import argparse
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

NAME = "cookiecutter-dvc-finetune"
TEMPLATE = Path(__file__).parent / "template"


def questions() -> dict[str, tuple[Any, str]]:
    """Return the default and the prompt of each public question of the template."""
    values = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
    prompts = values["__prompts__"]
    return {
        name: (default, prompts[name]["__prompt__"] if isinstance(prompts[name], dict) else prompts[name])
        for name, default in values.items()
        if not name.startswith("_")
    }


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with one option for each question."""
    made = argparse.ArgumentParser(
        NAME,
        description="Generate a repository in which `dvc repro` fine-tunes a language model.",
        epilog="Options for questions set the defaults of their answers; with --no-input they are the answers.",
    )
    for name, (default, prompt) in questions().items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            made.add_argument(option, action=argparse.BooleanOptionalAction, default=None, help=prompt)
        elif isinstance(default, list):
            made.add_argument(option, choices=default, help=f"{prompt} (default: {default[0]})")
        else:
            made.add_argument(option, metavar="TEXT", help=prompt)
    made.add_argument("--no-input", action="store_true", help="ask nothing; take the defaults")
    made.add_argument("-o", "--output-dir", default=".", metavar="FOLDER", help="where to create the project's folder")
    made.add_argument("--version", action="version", version=f"{NAME} {version(NAME)}")
    return made


def generate(answers: dict[str, Any], output_dir: str, no_input: bool) -> Path:
    """Generate a project and return its folder. Raises CookiecutterException and EOFError (no terminal to ask)."""
    from cookiecutter.main import cookiecutter

    with tempfile.TemporaryDirectory() as folder:
        # pip compiles the installed template's code, and cookiecutter would copy the caches into the project.
        copy = shutil.copytree(TEMPLATE, Path(folder) / NAME, ignore=shutil.ignore_patterns("__pycache__"))
        return Path(cookiecutter(str(copy), no_input=no_input, extra_context=answers, output_dir=output_dir))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    from cookiecutter.exceptions import CookiecutterException, FailedHookException, OutputDirExistsException

    options = vars(parser().parse_args(arguments))
    no_input, output_dir = options.pop("no_input"), options.pop("output_dir")
    logging.getLogger("cookiecutter").addHandler(logging.NullHandler())  # it would print tracebacks of hooks
    answers = {name: value for name, value in options.items() if value is not None}
    try:
        generate(answers, output_dir, no_input)
    except FailedHookException:
        return 1  # the hook has printed why
    except OutputDirExistsException as error:
        print(f"error: {error}\n→ Choose another --project-slug or --output-dir.", file=sys.stderr)
    except CookiecutterException as error:
        print(f"error: {error}", file=sys.stderr)
    except EOFError:
        print("error: There is no terminal to ask questions.\n→ Use --no-input, and options.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    else:
        return 0
    return 1
