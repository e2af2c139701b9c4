"""A newcomer's walk from an empty folder to an updated project. What it prints is docs/start.md of the project.

It runs each command in a temporary folder with an empty HOME, and stops at the first that fails. It needs git, make and
the package index, and takes some minutes, most of them for PyTorch.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = next(ROOT.glob("*cookiecutter.project_slug*"))
PAGE = PROJECT / "docs" / "start.md"
ADDRESS = "https://github.com/cookiecutter-dvc-finetune/cookiecutter-dvc-finetune"
LEAKS = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "FINETUNE_HOME")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TEAMS = ("account", "billing", "delivery")
ROWS_OF_A_TEAM = 80
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
        more = {"HOME": f"{folder}/home", "PATH": os.pathsep.join(path), "COLUMNS": "110", "DVC_NO_ANALYTICS": "1"}
        self.environment = kept | names | more

    def say(self, *lines: str) -> None:
        self.text += [*lines, ""]

    def do(self, *commands: str, last: int = 0, code: int | None = 0) -> None:
        """Run commands one after another; show them, and the last lines of the last one's output."""
        output = ""
        for command in commands:
            print(f"$ {command}", flush=True)
            output = self.run(command, code if command == commands[-1] else 0)
        lines = [line.rstrip() for line in output.splitlines() if line.strip()]
        shown = ["…"] * (last < len(lines)) + lines[-last:] if last else []
        self.text += ["```console", *(f"$ {command}" for command in commands), *shown, "```", ""]

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


def write_tickets(path: Path) -> None:
    """Write a user's CSV: rows of three teams from the default starter, under other names of columns."""
    rows = defaultdict(list)
    with open(PROJECT / "starters" / "classify" / "data" / "messages.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows[row["team"]].append(row["message"])
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "queue"])
        table.writerows([text, team] for team in TEAMS for text in rows[team][:ROWS_OF_A_TEAM])


def copy_template(walk: Walk) -> None:
    """Copy this repository's files to where the page's address leads, and install the two commands of uvx."""
    template = walk.folder / "template"
    template.mkdir()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (template / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, template / name)
    walk.run(f"cd {template} && git init -q -b main && git add -Af && git commit -qm Template && git tag start")
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
        copy_template(walk)
        write_tickets(walk.cwd / "tickets.csv")
        take(walk)
    PAGE.write_text("\n".join(walk.text).strip() + "\n", encoding="utf-8")


def take(walk: Walk) -> None:
    for part in (generate, read_data, train_first, compare, ship, update):
        part(walk)


def generate(walk: Walk) -> None:
    walk.say(
        "From an empty folder to a fine-tuned model, on this machine, without an account or a key. You need",
        "Python ≥ 3.10, git and make ([without make](without-make.md)). Each command was run; the outputs are its own.",
    )
    walk.say("## Generate and install")
    walk.do("uvx cookiecutter-dvc-finetune --no-input", "cd my-fine-tune")
    walk.cwd = walk.folder / "work" / "my-fine-tune"
    walk.do("make setup", "git add . && git commit -qm Start")
    walk.do(". .venv/bin/activate")


def read_data(walk: Walk) -> None:
    walk.say("## Your data")
    rows = len(TEAMS) * ROWS_OF_A_TEAM
    walk.say(
        f"`tickets.csv` has {rows} messages (`text`), and the queue that each belongs to (`queue`). Take your own file."
    )
    walk.do("finetune init ../tickets.csv --yes", last=40)


def train_first(walk: Walk) -> None:
    walk.say("## The first fine-tune")
    walk.do("dvc repro")
    walk.do("finetune show", last=60)
    walk.say("The page to look at is `reports/report.html`. A fine-tune is a commit:")
    walk.do("git add . && git commit -qm 'First fine-tune'")


def compare(walk: Walk) -> None:
    walk.say("## Change something, and compare")
    walk.do("sed -i.bak 's/n_epochs: .*/n_epochs: 1/' params.yaml && rm params.yaml.bak", "dvc repro")
    walk.do("finetune compare HEAD", last=30)
    walk.say("Set the parameter back, and the first fine-tune is there again; nothing is trained.")
    walk.do("git checkout -q . && dvc checkout -q", "dvc status", last=4)


def ship(walk: Walk) -> None:
    walk.say("## Ship it")
    walk.do("finetune export --to merged", last=30)
    walk.say("A commit is tagged if its gates (`evaluate.require`) are met. If one is not, `promote` names it.")
    walk.do("git add . && git commit -qm Export", "finetune promote --stage staging", last=12, code=None)


def update(walk: Walk) -> None:
    walk.say("## A later version of the template")
    walk.say("A project is linked to the template once; here its later version has one more line in a page of `docs/`.")
    link = f"uvx --python 3.12 cruft link {ADDRESS} --checkout start --no-input"
    walk.do(link, "git add . && git commit -qm 'Link to the template'")
    change_template(walk)
    walk.do("uvx --python 3.12 cruft check", last=4, code=1)
    walk.do("uvx --python 3.12 cruft update --skip-apply-ask", "git diff --stat HEAD", last=4)
    walk.say("Nothing is trained again:")
    walk.do("dvc status train", last=4)


if __name__ == "__main__":
    main()
