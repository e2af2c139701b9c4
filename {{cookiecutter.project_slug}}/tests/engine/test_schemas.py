"""Test the schema of each route: what is unknown or of a wrong type is refused by its name, and neutral values pass."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi import FORM, Client, Sent, add_file, add_model, form, idle_engine

JOBS, BATCHES, UPLOADS, TOKENIZE = "/v1/fine_tuning/jobs", "/v1/batches", "/v1/uploads", "/tokenize"
CHECKPOINT = "/v1/fine_tuning/checkpoints/ft:tiny:local::1/permissions"
HOUR = {"anchor": "created_at", "seconds": 3600}
WANDB = {"type": "wandb", "wandb": {"project": "p"}}


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with idle_engine(tmp_path, monkeypatch) as found:
        add_model(tmp_path, 1)
        yield found


def valid(client: Client) -> dict[str, dict[str, Any]]:
    """Return a body for each route that each of them accepts."""
    return {
        JOBS: {"model": "tiny", "training_file": add_file(client)["id"]},
        BATCHES: {
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "input_file_id": add_file(client, "batch")["id"],
        },
        UPLOADS: {"filename": "a", "mime_type": "text/plain", "purpose": "batch", "bytes": 1},
        TOKENIZE: {"model": "tiny", "prompt": "a"},
        CHECKPOINT: {"project_ids": ["proj_1"]},
    }


def supervised(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}


@pytest.mark.parametrize(
    ("path", "more"),
    [
        *((path, {}) for path in (JOBS, BATCHES, UPLOADS, TOKENIZE, CHECKPOINT)),
        # What clients send where their user has set nothing.
        (JOBS, {"integrations": [], "metadata": None, "seed": None, "suffix": None, "validation_file": None}),
        (JOBS, {"integrations": None, "hyperparameters": {}, "method": None}),
        (JOBS, {"method": {"type": "supervised", "supervised": None, "dpo": None, "reinforcement": None}}),
        (JOBS, {"hyperparameters": None, "metadata": {}}),
        (JOBS, {"method": supervised(n_epochs=2), "hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}),
        (BATCHES, {"metadata": None, "output_expires_after": None}),
        (BATCHES, {"endpoint": "/v1/completions", "output_expires_after": HOUR}),
        (UPLOADS, {"expires_after": None}),
        (UPLOADS, {"expires_after": HOUR}),
        (TOKENIZE, {"add_special_tokens": False}),
    ],
)
def test_a_valid_body_is_accepted(client: Client, path: str, more: dict[str, Any]) -> None:
    answer = client.post(path, {**valid(client)[path], **more})
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        *((path, {"colour": False}, "colour") for path in (JOBS, BATCHES, UPLOADS, TOKENIZE, CHECKPOINT)),
        (JOBS, {"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 1}}}}, "method.dpo"),
        (JOBS, {"method": {"type": "reinforcement"}}, "method"),
        (JOBS, {"method": {"type": "supervised", "colour": 1}}, "method.colour"),
        (JOBS, {"method": {"type": "supervised", "supervised": {"rate": 1}}}, "method.supervised.rate"),
        (JOBS, {"method": {"supervised": {"hyperparameters": {}}}}, "method"),
        (JOBS, {"method": supervised(n_epochs=True)}, "hyperparameters.n_epochs"),
        (JOBS, {"method": supervised(n_epochs=2), "hyperparameters": {"n_epochs": 3}}, "hyperparameters"),
        (JOBS, {"method": supervised(n_epochs=2), "hyperparameters": {"batch_size": 2}}, "hyperparameters"),
        (JOBS, {"integrations": [{**WANDB, "colour": 1}]}, "integrations[0].colour"),
        (
            JOBS,
            {"integrations": [{"type": "wandb", "wandb": {"project": "p", "team": "t"}}]},
            "integrations[0].wandb.team",
        ),
        (JOBS, {"integrations": [{"type": "mlflow", "wandb": {"project": "p"}}]}, "integrations"),
        (JOBS, {"integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["x" * 65]}}]}, "integrations"),
        (JOBS, {"integrations": [WANDB] * 6}, "integrations"),
        (JOBS, {"validation_file": 0}, "validation_file"),
        (JOBS, {"suffix": False}, "suffix"),
        (BATCHES, {"endpoint": "/v1/embeddings"}, "endpoint"),
        (BATCHES, {"output_expires_after": {**HOUR, "seconds": 3599}}, "output_expires_after"),
        (BATCHES, {"output_expires_after": {**HOUR, "colour": 1}}, "output_expires_after.colour"),
        (UPLOADS, {"bytes": True}, "bytes"),
        (UPLOADS, {"expires_after": {"seconds": 3600}}, "expires_after"),
        (UPLOADS, {"expires_after": {**HOUR, "anchor": "last_active_at"}}, "expires_after"),
        (UPLOADS, {"expires_after": {**HOUR, "seconds": "3600"}}, "expires_after"),
        (UPLOADS, {"expires_after": {**HOUR, "seconds": 2_592_001}}, "expires_after"),
        (UPLOADS, {"purpose": "evals"}, "purpose"),
        (TOKENIZE, {"add_special_tokens": 1}, "add_special_tokens"),
        (CHECKPOINT, {"project_ids": []}, "project_ids"),
        (CHECKPOINT, {"project_ids": "proj_1"}, "project_ids"),
        (CHECKPOINT, {"project_ids": [1]}, "project_ids"),
    ],
)
def test_what_is_unknown_or_of_a_wrong_type_is_refused_by_its_name(
    client: Client, path: str, more: dict[str, Any], param: str
) -> None:
    answer = client.post(path, {**valid(client)[path], **more})
    assert (answer.status, answer.error["param"]) == (400, param), answer.body


def test_an_unknown_key_of_the_completion_of_an_upload_is_refused(client: Client) -> None:
    upload = client.post(UPLOADS, valid(client)[UPLOADS]).json()["id"]
    answer = client.post(f"{UPLOADS}/{upload}/complete", {"part_ids": [], "sha256": "a"})
    assert (answer.status, answer.error["param"]) == (400, "sha256")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"colour": b"red"}, "colour"),
        ({"purpose": b"evals"}, "purpose"),
        ({"expires_after": b"3600"}, "expires_after"),
        ({"expires_after[anchor]": b"created_at"}, "expires_after"),
        ({"expires_after[anchor]": b"created_at", "expires_after[seconds]": b"60"}, "expires_after"),
        ({"expires_after[anchor]": b"created_at", "expires_after[seconds]": b"an hour"}, "expires_after"),
        ({"expires_after[colour]": b"1"}, "expires_after.colour"),
    ],
)
def test_an_unknown_or_wrong_field_of_a_form_is_refused(client: Client, fields: dict[str, bytes], param: str) -> None:
    parts = {"purpose": b"user_data", **fields}
    body = form(*((name, None, value) for name, value in parts.items()), ("file", "a", b"a"))
    answer = client.send(Sent("POST", "/v1/files", (body,), FORM))
    assert (answer.status, answer.error["param"]) == (400, param)


def test_an_unknown_field_beside_a_part_is_refused(client: Client) -> None:
    upload = client.post(UPLOADS, valid(client)[UPLOADS]).json()["id"]
    body = form(("data", "a", b"a"), ("number", None, b"1"))
    answer = client.send(Sent("POST", f"{UPLOADS}/{upload}/parts", (body,), FORM))
    assert (answer.status, answer.error["param"]) == (400, "number")


@pytest.mark.parametrize(
    ("target", "param"),
    [
        ("/v1/files?colour=1", "colour"),
        ("/v1/files?purpose=fine_tune", "purpose"),
        ("/v1/files?order=ascending", "order"),
        ("/v1/files?limit=1&limit=2", "limit"),
        ("/v1/files/file-none?limit=1", "limit"),
        ("/v1/models?limit=1", "limit"),
        (f"{JOBS}?order=asc", "order"),
        (f"{JOBS}?Metadata[a]=b", "Metadata[a]"),
        (f"{JOBS}?metadata[a=b", "metadata[a"),
        (f"{JOBS}?limit=true", "limit"),
        (f"{BATCHES}?metadata[a]=b", "metadata[a]"),
        (f"{CHECKPOINT}?order=asc", "order"),
        (f"{CHECKPOINT}?project=a", "project"),
    ],
)
def test_an_unknown_parameter_or_value_of_a_query_is_refused(client: Client, target: str, param: str) -> None:
    answer = client.get(target)
    assert (answer.status, answer.error["param"]) == (400, param)


def test_the_version_that_azures_clients_send_with_each_request_passes(client: Client) -> None:
    for path in ("/v1/files", "/v1/models", JOBS, BATCHES, CHECKPOINT):
        assert client.get(f"{path}?api-version=2024-10-21").status == 200
    assert client.post(f"{JOBS}?api-version=2024-10-21", valid(client)[JOBS]).status == 200
