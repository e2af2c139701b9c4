"""`finetune files`: what lies at the provider, and what of it this project's history does not need."""

from typing import Annotated

import typer

from finetune.commands.options import AsJson
from finetune.terminal.tables import print_json, print_table, when

app = typer.Typer(help="Look after files at the provider.", no_args_is_help=True)


@app.command("list")
def list_files(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(help="How many files, the newest first.", min=1, max=10_000)] = 20,
) -> None:
    """List the provider's newest files, and say which of them this project's commits name."""
    from itertools import islice

    from finetune.core.params import load_params
    from finetune.project.cleanup import needed
    from finetune.provider.connect import connect

    with connect(load_params().provider) as connection:
        found = list(islice(connection.control.files.list(limit=limit), limit))
    kept = needed().files
    if as_json:
        print_json([file.model_dump(mode="json") | {"in_history": file.id in kept} for file in found])
        return
    print_table(
        ["file", "purpose", "bytes", "created", "name", "in history"],
        [
            [
                file.id,
                file.purpose,
                f"{file.bytes:,}",
                when(file.created_at),
                file.filename if len(file.filename) < 40 else f"{file.filename[:12]}….jsonl",
                "yes" if file.id in kept else None,
            ]
            for file in found
        ],
    )


@app.command("clean")
def clean_files(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed, after asking.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the files and models that this project made and no commit of it names; nothing else is ever touched.

    Examples: finetune files clean · finetune files clean --delete
    """
    from finetune.core.params import load_params
    from finetune.project.cleanup import remove, unneeded
    from finetune.provider.connect import connect

    with connect(load_params().provider) as connection:
        found = unneeded(connection)
        if as_json:
            print_json(found)
        elif found:
            print_table(["what", "ID", "why"], [[thing["kind"], thing["id"], thing["why"]] for thing in found])
        else:
            print("Nothing: all that this project made at the provider is named by a commit.")
        if not delete or not found:
            if found and not as_json:
                print("Nothing was deleted. To do so: finetune files clean --delete")
            return
        if not yes:
            typer.confirm(f"Delete these {len(found)} at {connection.identity}, for good?", abort=True)
        for thing in found:
            print(f"{thing['id']}: {'deleted' if remove(connection, thing) else 'was gone already'}")
