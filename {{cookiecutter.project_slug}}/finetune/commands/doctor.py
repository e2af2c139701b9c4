"""`finetune doctor`: is everything there, and what to do where it is not."""

from typing import Annotated

import typer

from finetune.commands.options import AsJson
from finetune.terminal.tables import print_json, print_table


def doctor(
    as_json: AsJson = False,
    ask: Annotated[bool, typer.Option(help="Ask the base model for a token, to see whether the quota allows.")] = True,
) -> None:
    """Check keys, access, addresses, the base model and its shutdown date, quota, disk, versions and the DVC remote.

    The exit status is 1 if something is wrong. Examples: finetune doctor · finetune doctor --no-ask --json
    """
    from finetune.project.health import examine

    checks = list(examine(ask))
    if as_json:
        print_json(checks)
    else:
        signs = {"ok": "✓", "warning": "!", "wrong": "✗"}
        rows = []
        for check in checks:
            rows.append([signs[check["state"]], check["check"], check["found"]])
            if check["todo"]:
                rows.append(["", "", f"→ {check['todo']}"])
        print_table(["", "", ""], rows)
    if any(check["state"] == "wrong" for check in checks):
        raise typer.Exit(1)
