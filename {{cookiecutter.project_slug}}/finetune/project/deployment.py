"""deploy: an optional step after train, for providers whose fine-tuned models answer only when deployed."""

import re

from finetune.core.disk import read_if_there, read_json, write_json
from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.core.paths import DEPLOYMENT, MODEL
from finetune.core.profiles import PROFILES
from finetune.core.read_records import read_model_record
from finetune.core.records.training import DeploymentRecord
from finetune.provider import deployment_api
from finetune.provider.answer_parser import Answer
from finetune.provider.azure_deployments import deployed_model
from finetune.provider.connect import Connection, connect
from finetune.provider.deployment_call import NotThereError
from finetune.terminal.progress import say

MADE_BY = "train, then finetune deploy"  # what writes its record

FINE_TUNE = re.compile(r".+\.ft-\w+")  # Azure's names of fine-tuned models


def deploy(params: Params) -> DeploymentRecord:
    """Deploy the model of the record, write down the name to ask it by, and wait until it answers.

    A deployment that was written down and is there is not made again: it costs money.
    """
    record, settings = read_model_record(), params.provider.deploy
    model, job, step = record["model"], record["job"], record["chosen"]["step"]
    with connect(params.provider) as connection:
        deployment: DeploymentRecord = read_if_there(DEPLOYMENT, MADE_BY, DeploymentRecord)
        is_ours = (deployment.get("provider"), deployment.get("model")) == (params.provider.name, model)
        if not is_ours or not deployment_api.is_there(connection, deployment["name"], settings):
            source = deployment_api.source_of(connection, model, job, step)
            name = deployment_api.start(connection, record["base"], model, source, settings)
            deployment = {"provider": params.provider.name, "model": model, "name": name}
            if source != model:
                deployment["source"] = source
            write_json(DEPLOYMENT, deployment)
        deployment_api.wait_until_ready(connection, deployment["name"], model, settings, say)
    return deployment


def remove(params: Params) -> str:
    """Remove the deployment of the record, and return its name."""
    deployment: DeploymentRecord = read_json(DEPLOYMENT, MADE_BY, DeploymentRecord)
    with connect(params.provider) as connection:
        deployment_api.remove(connection, deployment["name"], params.provider.deploy)
    DEPLOYMENT.unlink()
    return deployment["name"]


def answering_name(params: Params, model: str) -> str:
    """Return the name to ask a fine-tuned model by: its own, or that of its deployment.

    Raises FinetuneError if the provider requires a deployment and there is none of this model, or if the deployment has
    another model now.
    """
    profile = PROFILES[params.provider.name]
    if profile.deploys is None:
        return model
    deployment = read_if_there(DEPLOYMENT, MADE_BY, DeploymentRecord)
    if deployment.get("model") != model:
        raise FinetuneError(
            f"At {profile.name!r}, {model} answers only when it is deployed. A deployment costs {profile.deploys}.",
            "Deploy it with: finetune deploy, then: dvc repro",
        )
    name = str(deployment["name"])
    refuse_other_model(params, name, model, deployment.get("source"))
    return name


def refuse_other_model(params: Params, name: str, model: str, source: str | None) -> None:
    """Raise FinetuneError if a deployment is gone or not ready, or has another model now, whose answers would count.

    `source` is what was deployed, if that is not the model's name.
    """
    profile = PROFILES[params.provider.name]
    try:
        found = deployed_model(profile, name, params.provider.deploy)
    except NotThereError as error:
        raise FinetuneError(
            f"The deployment {name} of {model} is gone: {error.what}",
            "Deploy it again with: finetune deploy. Azure deletes a deployment that is not used for 15 days. If it is"
            " there, correct provider.deploy in params.yaml.",
        ) from error
    except FinetuneError as error:
        say(f"warning: it was not checked whether the deployment {name} still has {model}: {error.what}")
        return
    if found and found["name"] not in (model, source):
        raise other_model(name, found["name"], model)
    if found and found["state"].lower() not in deployment_api.READY:
        raise FinetuneError(
            f"The deployment {name} is not ready: its state is {found['state']!r}.",
            "Wait until it is with: finetune deploy, then run the same command again.",
        )


def refuse_other_answers(connection: Connection, name: str, model: str) -> None:
    """Raise FinetuneError if the answers to a name say that another fine-tuned model gave them.

    For users without the right to read deployments. Answers that name only the base say nothing.
    """
    answer = connection.answering.get(name)
    if answer and is_of_other_model(answer, model):
        raise other_model(name, answer.model, model)


def is_of_other_model(answer: Answer, model: str) -> bool:
    """Return whether another fine-tuned model gave an answer, by the deployment or by what the answer says."""
    named = answer.deployed.partition(" version ")[0] or answer.model
    return named != model and all(map(FINE_TUNE.fullmatch, (named, model)))


def other_model(name: str, found: str, model: str) -> FinetuneError:
    return FinetuneError(
        f"The deployment {name} has the model {found} now, and {MODEL} is the record of {model}.",
        "Bring this model back with: finetune deploy, then: dvc repro. Or restore the record of the other one.",
    )
