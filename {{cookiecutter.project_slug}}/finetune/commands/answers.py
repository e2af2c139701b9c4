"""answers: the answers that are kept for all projects of this user, so that no question is paid twice."""

from typing import Annotated

import typer

from finetune.commands.options import AsJson, Yes

app = typer.Typer(no_args_is_help=True, help="List or clear the kept answers, which are not asked and paid again.")


@app.command("list")
def list_answers(as_json: AsJson = False) -> None:
    """List the kept answers by provider, name and the model that answered.

    Examples: finetune answers list · finetune answers list --json
    """
    from finetune.provider.answer_cache import open_answer_cache
    from finetune.terminal.tables import print_json, print_table, when

    with open_answer_cache() as cache:
        groups = cache.groups()
    if as_json:
        print_json(groups)
        return
    if not groups:
        print("answers: none are kept")
        return
    rows = [
        [
            one["provider"] or "(earlier version)",
            one["asked"],
            one["model"],
            one["fingerprint"],
            f"{one['answers']:,}",
            when(one["first"]),
            when(one["last"]),
        ]
        for one in groups
    ]
    print_table(["provider", "asked as", "answered by", "fingerprint", "answers", "first", "last"], rows)


@app.command("clear")
def clear_answers(
    model: Annotated[str | None, typer.Argument(help="The name by which it was asked.", show_default="all")] = None,
    yes: Yes = False,
) -> None:
    """Remove kept answers, so that their questions are asked and paid again. Files of the projects do not change.

    Examples: finetune answers clear prod · finetune answers clear --yes
    """
    from finetune.provider.answer_cache import open_answer_cache

    with open_answer_cache() as cache:
        found = sum(one["answers"] for one in cache.groups() if model in (None, one["asked"]))
        if not found:
            print("answers: nothing to remove")
            return
        if not yes:
            typer.confirm(f"Remove {found:,} answers? Their questions are paid again when they are asked.", abort=True)
        print(f"answers: {cache.clear(model):,} removed")
