"""`finetune models`: list, show and delete models at the provider."""

from typing import Annotated, Any

import typer

from finetune.commands.options import AsJson, Yes
from finetune.terminal.tables import print_json, print_table, when

app = typer.Typer(help="List, show and delete models at the provider.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(metavar="MODEL", help="The model's ID, such as ft:base:org::abc123.")]


@app.command("list")
def list_models(
    as_json: AsJson = False,
    tuned: Annotated[bool, typer.Option("--tuned", help="Only fine-tuned models.")] = False,
) -> None:
    """List models, their shutdown dates, and which of them commits refer to.

    Examples: finetune models list --tuned · finetune models list --json
    """
    from finetune.core.params import load_params
    from finetune.project.cleanup import needed
    from finetune.provider.connect import connect
    from finetune.provider.paging import all_rows

    with connect(load_params().provider) as connection:
        found = [m for m in all_rows(connection.control.models.list()) if m.id.startswith("ft:") or not tuned]
    kept = needed().models
    if as_json:
        print_json([model.model_dump(mode="json") | {"in_history": model.id in kept} for model in found])
        return
    rows = [
        [m.id, when(m.created), getattr(m, "shutdown_date", None), "yes" if m.id in kept else None]
        for m in sorted(found, key=lambda m: (m.created or 0, m.id))
    ]
    print_table(["model", "created", "shutdown", "in history"], rows)


@app.command("show")
def show_model(model: ModelId, as_json: AsJson = False) -> None:
    """Show a model, and its record in this project."""
    from finetune.core.params import load_params
    from finetune.pricing.catalogue import base_name, look_up
    from finetune.project.history import committed_models
    from finetune.provider.connect import connect

    params = load_params()
    with connect(params.provider) as connection:
        found = connection.control.models.retrieve(model)
    record: dict[str, Any] = next((dict(one) for one in committed_models() if one.get("model") == model), {})
    known = look_up(base_name(model), params.provider.name)
    facts = found.model_dump(mode="json") | {
        "base": record.get("base", known.name),
        "shutdown_date": getattr(found, "shutdown_date", None) or (str(known.shutdown) if known.shutdown else None),
        **{key: record.get(key) for key in ("job", "fingerprint", "trained_tokens", "usd", "lineage")},
    }
    if as_json:
        print_json(facts)
    else:
        facts["created"] = when(found.created)
        print_table(["", ""], [[key.replace("_", " "), value] for key, value in facts.items()])


@app.command("delete")
def delete_model(
    model: ModelId,
    yes: Yes = False,
) -> None:
    """Delete a fine-tuned model, after confirmation. Its record in Git stays.

    A model that another project uses is not deleted with --yes.
    """
    from finetune.core.errors import FinetuneError
    from finetune.core.params import load_params
    from finetune.project.cleanup import needed, other_users
    from finetune.provider.connect import connect

    with connect(load_params().provider) as connection:
        connection.control.models.retrieve(model)
        users = other_users(connection, model)
        if users and yes:
            raise FinetuneError(
                f"{model} is not deleted: {', '.join(users)}.", f"If you are sure: finetune models delete {model}"
            )
        if not yes:
            users += ["a commit of this project refers to it"] if model in needed().models else []
            warning = f"Note that {', '.join(users)}. " if users else ""
            typer.confirm(f"{warning}Delete {model} at {connection.identity} permanently?", abort=True)
        connection.control.models.delete(model)
    print(f"{model}: deleted")
