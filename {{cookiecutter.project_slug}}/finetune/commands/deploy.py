"""`finetune deploy`: deploy a tuned model at providers that require it."""

from typing import Annotated

import typer

from finetune.commands.options import Yes
from finetune.core.errors import FinetuneError


def deploy(
    remove: Annotated[bool, typer.Option("--remove", help="Remove the deployment, so that it costs no more.")] = False,
    yes: Yes = False,
) -> None:
    """Deploy the tuned model (Azure, Nebius). The price is shown first.

    Examples: finetune deploy, then: dvc repro · finetune deploy --remove
    """
    from finetune.core.params import load_params
    from finetune.core.profiles import PROFILES
    from finetune.project import deployment

    params = load_params()
    costs = PROFILES[params.provider.name].deploys
    if costs is None:
        raise FinetuneError(
            f"{params.provider.name!r} needs no deployment: a fine-tuned model answers as soon as it is trained.",
            "Continue with: dvc repro",
        )
    if remove:
        print(f"deploy: removed {deployment.remove(params)}")
        return
    if not yes:
        typer.confirm(f"A deployment costs {costs}. Deploy the tuned model?", abort=True)
    print(f"deploy: deployed as {deployment.deploy(params)['name']}. Next: dvc repro")
