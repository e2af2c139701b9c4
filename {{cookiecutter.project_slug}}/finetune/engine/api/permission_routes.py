"""Endpoints of the permissions of checkpoints.

At OpenAI a permission lets another project use a checkpoint. This server has one key for all projects, so a permission
changes nothing here: it is kept for the clients that manage them.
"""

import time

from starlette.requests import Request

from finetune.engine.api.helpers import store_of
from finetune.engine.api.lists import Condition, page
from finetune.engine.api.queries import PermissionQuery
from finetune.engine.api.requests import PermissionRequest
from finetune.engine.api.responses import Json, deleted_object, permission_object
from finetune.engine.api_errors import ApiError
from finetune.engine.ids import new_id
from finetune.engine.schema import PermissionRow


def create_permissions(request: Request, body: PermissionRequest) -> Json:
    """Give projects the permission to use a checkpoint. A project that has it keeps the one it has."""
    store, checkpoint = store_of(request), checkpoint_of(request)
    projects = list(dict.fromkeys(body.project_ids))
    with store.transaction() as db:
        db.executemany(
            "INSERT OR IGNORE INTO permissions (id, created_at, checkpoint, project) VALUES (?, ?, ?, ?)",
            [(new_id("cp_"), int(time.time()), checkpoint, project) for project in projects],
        )
        rows: list[PermissionRow] = store.rows("SELECT * FROM permissions WHERE checkpoint = ?", checkpoint)
    by_project = {row["project"]: permission_object(row) for row in rows}
    data = [by_project[project] for project in projects]
    return {
        "object": "list",
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"],
        "last_id": data[-1]["id"],
    }


def list_permissions(request: Request) -> Json:
    checkpoint = checkpoint_of(request)
    query: PermissionQuery = request.state.query
    conditions: list[Condition] = [("checkpoint = ?", [checkpoint])]
    if query.project_id is not None:
        conditions.append(("project = ?", [query.project_id]))
    name, is_ascending = f"permissions {checkpoint}", query.order == "ascending"
    return page(request, "SELECT * FROM permissions", conditions, permission_object, name, is_ascending)


def delete_permission(request: Request) -> Json:
    checkpoint, permission = checkpoint_of(request), request.path_params["permission"]
    if not store_of(request).execute("DELETE FROM permissions WHERE id = ? AND checkpoint = ?", permission, checkpoint):
        raise ApiError(404, f"No such permission of this checkpoint: {permission}", None, "permission_id")
    return deleted_object("checkpoint.permission", permission)


def checkpoint_of(request: Request) -> str:
    """Return the checkpoint that the path names. Raises ApiError if there is none."""
    name = str(request.path_params["id"])
    if store_of(request).row("SELECT 1 FROM checkpoints WHERE model = ?", name) is None:
        raise ApiError(404, f"No such checkpoint: {name}", None, "fine_tuned_model_checkpoint")
    return name
