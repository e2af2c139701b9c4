"""A newcomer's walk from an empty folder to an updated project. What it prints is docs/start.md of the project.

It runs each command in a temporary folder with an empty HOME, and stops at the first that fails. It needs git, make and
the package index, and takes some minutes, most of them for PyTorch. It also writes the data of that page,
examples/tickets.csv.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = next(ROOT.glob("*cookiecutter.project_slug*"))
PAGE = PROJECT / "docs" / "start.md"
TICKETS = PROJECT / "examples" / "tickets.csv"
ADDRESS = "https://github.com/cookiecutter-dvc-finetune/cookiecutter-dvc-finetune"
LEAKS = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "FINETUNE_HOME", "COLUMNS")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
VERSION = "v" + re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[0]
TEAMS = ("account", "billing", "delivery")
ROWS_OF_A_TEAM = 80
GATE = 'tuned.accuracy: ">= 0.99"'
# What runs in place of the page's commands: the template is this one, and Python the one that runs this file.
TOOLS = {"uvx cookiecutter-dvc-finetune": "cookiecutter-dvc-finetune", "uvx --python 3.12 cruft": "cruft"}


class Walk:
    """Runs the commands of the page, and collects its text."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cwd = folder, folder / "work"
        self.text = ["# Start", ""]
        for name in ("work", "home"):
            (folder / name).mkdir(exist_ok=True)
        path = [f"{self.cwd}/my-fine-tune/.venv/bin", f"{folder}/tools/bin", os.environ["PATH"]]
        names = {f"GIT_{who}_{what}": "me@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        kept = {key: value for key, value in os.environ.items() if key not in LEAKS and not key.endswith("_API_KEY")}
        more = {"HOME": f"{folder}/home", "PATH": os.pathsep.join(path), "DVC_NO_ANALYTICS": "1"}
        self.environment = kept | names | more

    def say(self, text: str) -> None:
        """Add a heading or a paragraph."""
        self.text += [textwrap.fill(text, 128, break_long_words=False, break_on_hyphens=False), ""]

    def do(self, *commands: str, last: int = 0, code: int | None = 0) -> str:
        """Run commands one after another; show them, and the last lines of the last one's output, which is returned."""
        output = ""
        for command in commands:
            print(f"$ {command}", flush=True)
            output = self.run(command, code if command == commands[-1] else 0)
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        shown = ["…"] * (last < len(lines)) + lines[-last:] if last else []
        self.text += ["```console", *(f"$ {command}" for command in commands), *shown, "```", ""]
        return output

    def run(self, command: str, code: int | None = 0) -> str:
        """Return what a command prints, without colours and this folder. Its exit status is `code`; None: any."""
        for shown, real in TOOLS.items():
            command = command.replace(shown, real)
        command = command.replace(ADDRESS, str(self.folder / "template"))
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        if code is not None and done.returncode != code:
            sys.exit(f"{command}: exit status {done.returncode}\n{done.stdout}")
        lines = [line.split("\r")[-1] for line in COLOURS.sub("", done.stdout).split("\n")]
        return "\n".join(lines).replace(str(self.folder / "template"), ADDRESS).replace(str(self.folder), "~")


def write_tickets() -> None:
    """Write a user's CSV: rows of three teams from the default starter, under other names of columns."""
    rows = defaultdict(list)
    with open(PROJECT / "starters" / "classify" / "data" / "messages.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["team"]].append(row["message"])
    TICKETS.parent.mkdir(exist_ok=True)
    with open(TICKETS, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["text", "queue"])
        table.writerows([text, team] for team in TEAMS for text in rows[team][:ROWS_OF_A_TEAM])


def copy_template(walk: Walk) -> None:
    """Copy this repository's files to where the page's address leads, and install the two commands of uvx."""
    template = walk.folder / "template"
    template.mkdir()
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (template / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, template / name)
    walk.run(f"cd {template} && git init -q -b main && git add -Af && git commit -qm Template && git tag {VERSION}")
    tools = walk.folder / "tools"
    walk.run(f"{sys.executable} -m venv {tools} && {tools}/bin/pip install -q {template} cruft==2.16.0")


def change_template(walk: Walk) -> None:
    """Commit a later version of the template: a file of the project has one more line."""
    page = walk.folder / "template" / PROJECT.name / "docs" / "figures.md"
    page.write_text(page.read_text(encoding="utf-8") + "\nA line of a later version.\n", encoding="utf-8")
    walk.run(f"cd {walk.folder}/template && git commit -qam 'A later version'")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(Path(folder))
        write_tickets()
        copy_template(walk)
        take(walk)
    PAGE.write_text("\n".join(walk.text).strip() + "\n", encoding="utf-8")


def take(walk: Walk) -> None:
    for part in (generate, read_data, train_first, compare, ship, update):
        part(walk)


def generate(walk: Walk) -> None:
    walk.say(
        "From an empty folder to a fine-tuned model, on this machine, without an account or a key. You need Python"
        " ≥ 3.10, git and make ([without make](without-make.md)). Each command was run by a program that wrote this"
        " page, and the outputs are theirs; `…` stands for lines that are left out."
    )
    walk.say("## Generate and install")
    walk.do("uvx cookiecutter-dvc-finetune --no-input", "cd my-fine-tune")
    walk.cwd = walk.folder / "work" / "my-fine-tune"
    walk.do("make setup", "git add . && git commit -qm Start")
    walk.do(". .venv/bin/activate")


def read_data(walk: Walk) -> None:
    walk.say("## Your data")
    walk.say(
        f"`examples/tickets.csv` has {len(TEAMS) * ROWS_OF_A_TEAM} messages (`text`), and the queue that each"
        " belongs to (`queue`). Take it, or your own file: CSV, TSV, XLSX, JSON, JSON Lines, TXT or Parquet."
        " Without `--yes`, `init` asks about each setting."
    )
    walk.do("finetune init examples/tickets.csv --yes", last=40)
    walk.say(
        "`reports/data.html` shows what will be trained on. All settings are in `params.yaml`, with a comment each."
    )


def train_first(walk: Walk) -> None:
    walk.say("## The first fine-tune")
    walk.do("dvc repro")
    walk.say("It takes some minutes without a GPU. Is it better?")
    walk.do("finetune show", last=60)
    walk.say(
        "Each column is a model: the base; the base with examples in its prompt (`few_shot`); what costs nothing"
        " (`floors`: the base limited to the classes, always the most frequent class, and TF-IDF with logistic"
        " regression); and your fine-tune (`tuned`). In brackets is the 95 % interval, which is wide with few test"
        " rows. The last lines say what is shown and what is not: a simple classifier can be as good as a small"
        " fine-tuned model. [Is it better?](evaluation.md) explains each figure."
    )
    walk.say("`reports/report.html` has plots, and each wrong answer. A fine-tune is a commit:")
    walk.do("git add . && git commit -qm 'First fine-tune'")
    walk.do('finetune ask "Where is my parcel?"', last=4)


def compare(walk: Walk) -> None:
    walk.say("## Change something, and compare")
    walk.say(
        "Edit `params.yaml` (here with `sed`) and run `dvc repro` again: only the stages that the change affects run."
    )
    walk.do("sed -i.bak 's/n_epochs: .*/n_epochs: 1/' params.yaml && rm params.yaml.bak", "dvc repro")
    walk.do("finetune compare HEAD", last=30)
    walk.say("Set the parameter back, and the first fine-tune is there again; nothing is trained.")
    walk.do("git checkout -q . && dvc checkout -q", "dvc status", last=4)


def ship(walk: Walk) -> None:
    walk.say("## Ship it")
    walk.say(
        "Name a format under `export.formats`. The stage `export` writes the model as files, and asks them the test"
        " rows again: the figures are of what ships. `exports/merged/README.md` has the commands that serve it."
    )
    walk.do("sed -i.bak 's/  formats: .*/  formats: [merged]/' params.yaml && rm params.yaml.bak", "dvc repro", last=14)
    walk.do("git add . && git commit -qm Export")
    walk.say(
        "`promote` tags a commit as the one to use, if the gates under `evaluate.require` in `params.yaml` are met."
    )
    shown = walk.do("finetune promote --stage staging", last=12, code=None)
    if "error:" not in shown:
        walk.say(
            "If a gate is not met, nothing is tagged. For example, ask for 99 %; nothing is trained or asked again:"
        )
        walk.do(f"sed -i.bak 's/ lift.accuracy_low: .*/ {GATE}/' params.yaml && rm params.yaml.bak", "dvc repro")
        walk.do("git add . && git commit -qm 'A gate for production'")
        walk.do("finetune promote --stage production", last=12, code=1)
    walk.say(
        "Then it is for you to decide: more data, another training, or [another"
        " gate](evaluation.md#if-a-gate-is-not-met)."
    )


def update(walk: Walk) -> None:
    walk.say("## A later version of the template")
    walk.say(
        "`cruft` merges a later version with what you changed. Link the project to the template once, by the"
        " version that generated it. Here the later version has one more line in a page of `docs/`."
    )
    link = f"uvx --python 3.12 cruft link {ADDRESS} --checkout {VERSION} --no-input"
    walk.do(link, "git add . && git commit -qm 'Link to the template'")
    change_template(walk)
    walk.do("uvx --python 3.12 cruft check", last=4, code=1)
    walk.do("uvx --python 3.12 cruft update --skip-apply-ask", "git diff --stat HEAD", last=4)
    walk.say("Nothing is trained again:")
    walk.do("dvc status train", last=4)
    walk.do("git add . && git commit -qm 'Update the template'")
    walk.say("## Read on")
    walk.say(
        "[Your data](data.md), [training](training.md), [is it better?](evaluation.md), [ship it](shipping.md),"
        " [another provider](providers.md), and [when something goes wrong](troubleshooting.md)."
    )


if __name__ == "__main__":
    main()
