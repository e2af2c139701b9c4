"""Test the permissions of checkpoints with the calls of OpenAI's package."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from asgi import add_job, add_model, empty_home

from finetune.engine.embedded import embedded


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    empty_home(tmp_path)
    (tmp_path / "models").mkdir()
    add_job(tmp_path, 0)
    return add_model(tmp_path, 1)


@pytest.fixture
def permissions(tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path))
    with (
        embedded() as address,
        openai.OpenAI(
            base_url=address.base_url, api_key=address.key, _strict_response_validation=True, max_retries=0
        ) as client,
    ):
        yield client.fine_tuning.checkpoints.permissions


def test_they_are_created_listed_and_deleted(permissions: Any, checkpoint: str) -> None:
    made = permissions.create(checkpoint, project_ids=["proj_a", "proj_b", "proj_a"]).data
    assert [one.project_id for one in made] == ["proj_a", "proj_b"]
    again = permissions.create(checkpoint, project_ids=["proj_b", "proj_c"]).data
    assert again[0] == made[1]
    newest_first = ["proj_c", "proj_b", "proj_a"]
    assert [one.project_id for one in permissions.list(checkpoint, limit=1)] == newest_first
    found = permissions.retrieve(checkpoint, order="ascending", limit=2)
    assert [one.project_id for one in found.data] == newest_first[:0:-1]
    assert (found.has_more, found.first_id, found.last_id) == (True, made[0].id, made[1].id)
    assert [one.id for one in permissions.list(checkpoint, project_id="proj_b")] == [made[1].id]
    deleted = permissions.delete(made[0].id, fine_tuned_model_checkpoint=checkpoint)
    assert (deleted.id, deleted.deleted) == (made[0].id, True)
    with pytest.raises(openai.NotFoundError):
        permissions.delete(made[0].id, fine_tuned_model_checkpoint=checkpoint)
    assert [one.project_id for one in permissions.list(checkpoint)] == newest_first[:2]


def test_an_unknown_checkpoint_is_refused_and_a_deleted_one_loses_its_permissions(
    permissions: Any, checkpoint: str
) -> None:
    calls: list[Callable[[str], Any]] = [
        lambda name: permissions.create(name, project_ids=["proj_a"]),
        lambda name: permissions.list(name),
        lambda name: permissions.delete("cp_none", fine_tuned_model_checkpoint=name),
    ]
    calls[0](checkpoint)
    assert permissions._client.models.delete(checkpoint).deleted
    for call in calls:
        for name in (checkpoint, "tiny", "ft:none"):
            with pytest.raises(openai.NotFoundError) as caught:
                call(name)
            assert caught.value.param == "fine_tuned_model_checkpoint"
