"""Endpoints of models, and of their tokenizers."""

import time
from pathlib import Path

import orjson
from starlette.requests import Request
from starlette.responses import Response

from finetune.engine import adapters, bases, publishing
from finetune.engine.api.helpers import store_of
from finetune.engine.api.requests import AdapterRequest, TokenizeRequest
from finetune.engine.api.responses import ORGANIZATION, Json, deleted_object, model_object
from finetune.engine.api_errors import ApiError, model_not_found
from finetune.engine.fingerprint import fingerprint_of
from finetune.engine.schema import ModelRow
from finetune.engine.store import Store

BASE_OWNER = "system"  # as OpenAI's own models have it


def list_models(request: Request) -> Response:
    """List all models: the API has no pages for them, so the list must be fast."""
    store = store_of(request)
    data = [model_object(name, bases.created(name, store.home), BASE_OWNER) for name in bases.installed(store)]
    with store.reader() as db:
        tuned = db.execute("SELECT id, created_at FROM models ORDER BY n")
        data += [model_object(name, created, ORGANIZATION) for name, created in tuned]
    return Response(orjson.dumps({"object": "list", "data": data}), media_type="application/json")


def get_model(request: Request) -> Json:
    store, name = store_of(request), request.path_params["id"]
    row = tuned_model(store, name)
    if row:
        return model_object(name, row["created_at"], ORGANIZATION) | fingerprint(store, name, row["base"])
    if bases.known(name, store):
        created = bases.created(name, store.home)
        return model_object(name, created, BASE_OWNER) | fingerprint(store, name, name)
    raise model_not_found(name)


def fingerprint(store: Store, name: str, base: str) -> Json:
    """Return what answers under a model's name; null where the base is not ready, which takes long."""
    ready = bases.ready(base, store.home)
    return {"system_fingerprint": fingerprint_of(store, name) if ready else None}


def delete_model(request: Request) -> Json:
    store, name = store_of(request), request.path_params["id"]
    if publishing.delete_model(store, name):
        return deleted_object("model", name)
    if bases.known(name, store):
        raise ApiError(403, f"{name} is a base model; only fine-tuned models can be deleted.", None, "model")
    raise model_not_found(name)


def load_adapter(request: Request, body: AdapterRequest) -> Json:
    """Make a model of an adapter in a folder of this machine, and return it. The folder is copied."""
    store, name, folder = store_of(request), body.lora_name, Path(body.lora_path)
    if not store.any_base:
        what = "This server loads adapters only where its owner allows any base: --allow-any-base, or on 127.0.0.1."
        raise ApiError(403, what, "not_supported", "lora_path")
    config = adapters.read_config(folder)
    base = body.base_model_name or config.get("base_model_name_or_path")
    if not isinstance(base, str):
        raise ApiError(400, f"{adapters.CONFIG} in {folder} names no base: give base_model_name.", None, "lora_path")
    if not bases.known(base, store):
        raise model_not_found(base)
    if bases.known(name, store):
        raise ApiError(400, f"{name} is a base model. Give the adapter another name.", None, "lora_name")
    adapters.load_adapter(store, name, base, folder)
    return model_object(name, int(time.time()), ORGANIZATION)


def tokenize(request: Request, body: TokenizeRequest) -> Json:
    """Return the token IDs of a text by the model's own tokenizer."""
    store = store_of(request)
    row = tuned_model(store, body.model)
    base = row["base"] if row else body.model
    if not row and not bases.known(base, store):
        raise model_not_found(body.model)
    tokenizer = bases.tokenizer_of(base, store.home)
    ids = tokenizer.encode(body.prompt, add_special_tokens=body.add_special_tokens).ids
    return {"tokens": ids, "count": len(ids)}


def tuned_model(store: Store, name: str) -> ModelRow | None:
    row: ModelRow | None = store.row("SELECT * FROM models WHERE id = ?", name)
    return row
