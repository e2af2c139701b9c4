"""`finetune doctor`: check everything that a fine-tune needs."""

from dataclasses import asdict
from typing import Annotated

import typer

from finetune.commands.options import AsJson
from finetune.terminal.tables import print_json, print_table


def doctor(
    as_json: AsJson = False,
    ask: Annotated[bool, typer.Option(help="Ask the base model for one token, to check the quota.")] = True,
) -> None:
    """Check keys, access, base model, quota, disk and versions.

    It also checks addresses, the base's shutdown date and the DVC remote. The exit status is 1 if something is wrong.

    Examples: finetune doctor · finetune doctor --no-ask --json
    """
    from finetune.project.health import examine

    checks = list(examine(ask))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        signs = {"ok": "✓", "warning": "!", "wrong": "✗"}
        rows = []
        for check in checks:
            rows.append([signs[check.state], check.check, check.found])
            if check.todo:
                rows.append(["", "", f"→ {check.todo}"])
        print_table(["", "", ""], rows)
    if any(check.state == "wrong" for check in checks):
        raise typer.Exit(1)
