"""`finetune files`: list and clean up files at the provider."""

from dataclasses import asdict
from typing import Annotated

import typer

from finetune.commands.options import AsJson, Yes
from finetune.terminal.tables import print_json, print_table, when

app = typer.Typer(help="List and clean up files at the provider.", no_args_is_help=True)


@app.command("list")
def list_files(
    as_json: AsJson = False,
    limit: Annotated[int, typer.Option(help="The number of files, newest first.", min=1, max=10_000)] = 20,
) -> None:
    """List the newest files, and which of them commits of this project refer to.

    Examples: finetune files list · finetune files list --json --limit 100
    """
    from itertools import islice

    from finetune.core.params import load_params
    from finetune.project.cleanup import needed
    from finetune.provider.connect import connect
    from finetune.provider.paging import each_row

    with connect(load_params().provider) as connection:
        found = list(islice(each_row(connection.control.files.list(limit=limit)), limit))
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
                None if file.bytes is None else f"{file.bytes:,}",
                when(file.created_at),
                name if len(name := file.filename or "") < 40 else f"{name[:12]}….jsonl",
                "yes" if file.id in kept else None,
            ]
            for file in found
        ],
    )


@app.command("clean")
def clean_files(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is listed, after confirmation.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """List or delete uploads and models that no commit refers to.

    Only files and models of this project are listed.

    Examples: finetune files clean · finetune files clean --delete
    """
    from finetune.core.params import load_params
    from finetune.project.cleanup import delete as delete_one
    from finetune.project.cleanup import unneeded
    from finetune.provider.connect import connect

    with connect(load_params().provider) as connection:
        found = unneeded(connection)
        if as_json:
            print_json([asdict(one) for one in found])
        elif found:
            print_table(["kind", "ID", "why"], [[one.kind, one.id, one.why] for one in found])
        else:
            print("Nothing to delete: commits refer to all files and models of this project.")
        if not delete or not found:
            if found and not as_json:
                print("Nothing was deleted. Delete these with: finetune files clean --delete")
            return
        if not yes:
            typer.confirm(f"Delete these {len(found)} at {connection.identity} permanently?", abort=True)
        still = unneeded(connection)  # another project may have marked something meanwhile
        for one in (one for one in found if one in still):
            print(f"{one.id}: {'deleted' if delete_one(connection, one) else 'was deleted already'}")
