"""Random requests, made from the engine's own description: its routes and the models of their bodies.

A third are valid, a third are valid but for one change, and a third are hostile.
"""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_from_bytes

from asgi import Sent, form
from pydantic import BaseModel

from finetune.engine.api.app import PERMISSIONS, ROUTES
from finetune.engine.api.helpers import ApiRoute
from finetune.engine.api.requests import (
    AdapterRequest,
    AskedHyperparameters,
    BatchRequest,
    CompleteUploadRequest,
    JobRequest,
    PermissionRequest,
    TokenizeRequest,
    UploadRequest,
)
from finetune.engine.inference.endpoints import ENDPOINTS

BODIES: dict[str, type[BaseModel]] = {
    "/v1/uploads": UploadRequest,
    "/v1/uploads/{id}/complete": CompleteUploadRequest,
    "/v1/fine_tuning/jobs": JobRequest,
    PERMISSIONS: PermissionRequest,
    "/v1/batches": BatchRequest,
    **{path: endpoint.body for path, endpoint in ENDPOINTS.items()},
    "/v1/load_lora_adapter": AdapterRequest,
    "/tokenize": TokenizeRequest,
}
FORMS = {"/v1/files": "file", "/v1/uploads/{id}/parts": "data"}
WITHOUT_BODY = ("/cancel", "/pause", "/resume")
DESCRIPTION = sorted({(route.path, method) for route in ROUTES for method in route.methods or () if method != "HEAD"})
# The parameters of each route's query.
QUERIES = {
    (route.path, method): sorted(route.query.model_fields)
    for route in ROUTES
    if isinstance(route, ApiRoute)
    for method in route.methods or ()
}
QUERY = ["after", "limit", "order", "purpose", "metadata", "metadata[a]", "metadata[", "metadata[]", "metadata[a][b]"]
QUERY += ["project_id", "api-version", "colour"]

TEXTS = [
    "",
    "a",
    "null",
    "tiny",
    "file-none",
    "값 é 😀",
    "a\0b",
    "\x7f\r\n",
    "../../etc/passwd",
    "/etc",
    "~",
    "%s%n",
    "{}",
]
TEXTS += [
    "'; DROP TABLE jobs; --",
    "\u202e\ufeff\ufffe",
    "\U0010ffff",
    "x" * 70,
    "y" * 5000,
    "a/b@c",
    ".",
    "..",
    "[",
    "-1",
]
NUMBERS = [0, -1, 1, 2, 0.5, -0.0, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**400, 1e308, 5e-324]
OTHERS: list[Any] = [None, True, False, [], {}, [[]], {"a": 1}, [None], {"": ""}, ["a"] * 200, [1, "a"]]
HALVES = ["\ud800", "a\udfff", "\udc80\ud800"]
RAW = [
    b"",
    b" ",
    b"{",
    b"[]",
    b"null",
    b'"a"',
    b"1",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 100_000,
]
RAW += [
    b'{"model": NaN}',
    b'{"seed": Infinity}',
    b'{"n": ' + b"9" * 5000 + b"}",
    b'{"a": 1e999}',
    b'{"model": "\\ud800"}',
]
RAW += [b'{"model": "\xed\xa0\x80"}', b"{}" * 2, b"\0" * 10, b'{"model": "tiny", "model": 1}', b'{"a": "\\u0000"}']
TYPES = [
    "",
    "text/plain",
    "application/json; charset=utf-16",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
]
TYPES += [
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=other",
    "multipart/form-data; boundary=\xff",
    "/",
]
TYPES += [
    "multipart/form-data; boundary=b0undary; charset=" + name for name in ("idna", "unicode_escape", "utf-7", "a")
]
ADDRESSES = [
    b"\xed\xa0\x80",
    b"\xff",
    b"\0",
    b"..",
    b"../../etc/passwd",
    b"a" * 5000,
    b"%",
    b"",
    b"//",
    b"?",
    b"#",
    b"\r\n",
]
FILES = [
    b"",
    b"{}",
    b'{"a": 1}\n' * 3,
    b"[1]\n",
    b"\xff\n",
    b'{"a": "\xed\xa0\x80"}\n',
    b'{"a": "\\ud800"}',
    b"[" * 10_000,
]
FILES += [
    b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "tiny"}}\n',
    b"\0" * 100,
]


@dataclass
class RandomRequests:
    """A source of requests. `ids` holds the IDs that answers have named, by the kind of object."""

    random: random.Random
    ids: dict[str, list[str]] = field(default_factory=dict)

    def request(self) -> Sent:
        """Return the next request."""
        path, method = route = self.random.choice(DESCRIPTION)
        how = self.random.choice(["valid", "changed", "hostile"])
        if how == "hostile" and self.random.random() < 0.1:
            method = self.random.choice(["PUT", "PATCH", "OPTIONS", "TRACE", "HEAD", "DELETE", "POST"])
        target = self.address(path, route, how)
        body, headers = b"", {}
        if path in FORMS and method == "POST":
            body, headers = self.form(FORMS[path], how), {"content-type": "multipart/form-data; boundary=b0undary"}
        elif path in BODIES and method == "POST":
            body, headers = self.json(BODIES[path], how), {"content-type": "application/json"}
        elif how == "hostile":
            body = self.random.choice([b"", *RAW])
        if how == "hostile":
            headers |= self.headers()
        chunks = self.split(body)
        return Sent(method, target, chunks, headers, cut=how == "hostile" and self.random.random() < 0.05)

    def see(self, answer: Any) -> None:
        """Remember the IDs of an answer's objects."""
        for one in answer.get("data", [answer]) if isinstance(answer, dict) else []:
            if isinstance(one, dict) and isinstance(one.get("id"), str) and isinstance(one.get("object"), str):
                known = self.ids.setdefault(one["object"], [])
                known.append(one["id"])
                del known[:-50]

    def known_id(self, *kinds: str) -> str:
        found = [one for kind in kinds or self.ids for one in self.ids.get(kind, [])]
        return self.random.choice(found) if found else "none"

    def address(self, path: str, route: tuple[str, str], how: str) -> str:
        kinds = {"files": "file", "uploads": "upload", "jobs": "fine_tuning.job", "batches": "batch", "models": "model"}
        kinds["checkpoints"] = "model"
        kind = next((kinds[part] for part in path.split("/") if part in kinds), "file")
        name = quote(self.known_id(kind) if how != "changed" else self.known_id(), safe="")
        if how == "hostile":
            name = self.random.choice([name, quote_from_bytes(self.random.choice(ADDRESSES)), quote(self.text())])
        target = path.replace("{id}", name).replace("{id:path}", name)
        target = target.replace("{permission}", quote(self.known_id("checkpoint.permission"), safe=""))
        names = QUERY if how == "hostile" else QUERIES.get(route, [])
        if names and self.random.random() < 0.5:
            chosen = self.random.sample(names, min(len(names), self.random.randint(1, 3)))
            target += "?" + "&".join(self.query(name, how) for name in chosen)
        return target

    def query(self, name: str, how: str) -> str:
        good: dict[str, Callable[[], str]] = {
            "after": self.known_id,
            "limit": lambda: str(self.random.choice([1, 2, 20, 100])),
            "order": lambda: self.random.choice(["asc", "desc", "ascending", "descending"]),
            "purpose": lambda: "fine-tune",
            "project_id": lambda: "a",
            "metadata": lambda: "null",
        }
        if how == "valid":
            return f"{quote(name)}={quote(good.get(name, lambda: 'b')())}"
        bad = [
            quote(self.text()),
            quote_from_bytes(self.random.choice(ADDRESSES)),
            "0",
            "-1",
            "101",
            "9" * 5000,
            "%D9%A3",
        ]
        return f"{quote(name)}={self.random.choice(bad)}"

    def text(self) -> str:
        return self.random.choice(TEXTS)

    def value(self) -> Any:
        """Return any JSON value. It is a copy, because `change` changes what is in it, and may put it into itself."""
        return copy.deepcopy(self.random.choice([*TEXTS, *NUMBERS, *OTHERS, *HALVES]))

    def json(self, kind: type[BaseModel], how: str) -> bytes:
        if how == "hostile" and self.random.random() < 0.5:
            return self.random.choice(RAW)
        body = self.of_schema(kind.model_json_schema())
        if kind is JobRequest and self.random.random() < 0.5:
            hyperparameters = self.of_schema(AskedHyperparameters.model_json_schema())
            body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        for _ in range({"valid": 0, "changed": 1, "hostile": 4}[how]):
            self.change(body)
        text = json.dumps(body, ensure_ascii=self.random.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")

    def of_schema(self, schema: dict[str, Any], name: str = "", all_of: dict[str, Any] | None = None) -> Any:
        """Return a value that a schema of pydantic allows, with IDs that exist where the name asks for one."""
        known = {"model": ["model"], "training_file": ["file"], "input_file_id": ["file"], "part_ids": ["upload.part"]}
        all_of = all_of or schema.get("$defs", {})
        if "$ref" in schema:
            return self.of_schema(all_of[schema["$ref"].rsplit("/", 1)[-1]], name, all_of)
        if "anyOf" in schema:
            return self.of_schema(self.random.choice(schema["anyOf"]), name, all_of)
        if "const" in schema or "enum" in schema:
            return schema.get("const", self.random.choice(schema.get("enum", [None])))
        kind = schema.get("type")
        if kind == "object":
            names = schema.get("properties", {})
            required = schema.get("required", [])
            chosen = [one for one in names if one in required or self.random.random() < 0.3]
            return {one: self.of_schema(names[one], one, all_of) for one in chosen}
        if kind == "array":
            most = min(3, schema.get("maxItems", 3))
            return [
                self.of_schema(schema["items"], name, all_of) for _ in range(self.random.randint(min(1, most), most))
            ]
        if kind == "string":
            ids = self.known_id(*known[name]) if name in known else ""
            return (ids or self.random.choice(["a", "값 é 😀", "paint it red"]))[: schema.get("maxLength", 10_000)]
        low = max(schema.get("minimum", schema.get("exclusiveMinimum", 0)), 0)
        high = min(schema.get("maximum", 3), low + 3)
        return self.random.choice([True, False]) if kind == "boolean" else self.number(kind, low, high)

    def number(self, kind: str | None, low: float, high: float) -> float | None:
        if kind == "integer":
            return self.random.randint(int(low) or 1, max(int(high), 1))
        return self.random.uniform(low, high) if kind == "number" else None

    def change(self, body: Any) -> None:
        """Change one place of a JSON value: replace it, remove it or add one."""
        place = body
        while isinstance(place, (dict, list)) and place:
            key = self.random.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], (dict, list)) and place[key] and self.random.random() < 0.5:
                place = place[key]
                continue
            action = self.random.choice(["replace", "replace", "remove", "add"])
            if action == "replace":
                place[key] = self.value()
            elif action == "remove":
                del place[key]
            elif isinstance(place, dict):
                place[self.random.choice([*TEXTS, *HALVES, "stream", "tools"])] = self.value()
            return

    def form(self, name: str, how: str) -> bytes:
        purpose = self.random.choice([b"fine-tune", b"batch", b"user_data"])
        content = self.random.choice(FILES) if how != "valid" else FILES[2]
        filename = self.random.choice([*TEXTS, *HALVES]).replace('"', "") if how != "valid" else "a.jsonl"
        parts: list[tuple[str, str | None, bytes]] = [("purpose", None, purpose), (name, filename, content)]
        if how == "valid":
            return form(*parts)
        action = self.random.choice(["twice", "missing", "text", "field", "expires", "cut", "boundary", "none"])
        if action == "twice":
            parts.append(self.random.choice(parts))
        elif action == "missing":
            parts.remove(self.random.choice(parts))
        elif action == "text":
            parts[1] = (name, None, content)
        elif action == "expires":
            seconds = self.random.choice([b"3600", b"2592000", b"3599", b"-1", b"many", b"9" * 5000])
            parts += [("expires_after[anchor]", None, b"created_at"), ("expires_after[seconds]", None, seconds)]
        elif action == "field":
            parts.append((self.text().replace('"', ""), None, self.random.choice(RAW)))
        whole = form(*parts, boundary="other" if action == "boundary" else "b0undary")
        return whole[: self.random.randint(0, len(whole))] if action == "cut" else whole

    def headers(self) -> dict[str, str]:
        return self.random.choice(
            [
                {},
                {"content-type": self.random.choice(TYPES)},
                {"content-length": self.random.choice(["0", "-1", "a", "9" * 30, str(2**63), "\xb2", "600000000"])},
                {"authorization": self.random.choice(["", "Bearer", "Bearer \xff", "Basic a"])},
                {"host": self.random.choice(["", "evil.example", "127.0.0.1:99999", "[::1]", "localhost:1"])},
                {
                    "range": self.random.choice(
                        ["bytes=0-0", "bytes=5-1", "a=1-2", "bytes=9-99", "bytes=" + "0-0," * 500]
                    )
                },
                {"if-range": "\xff", "range": "bytes=0-0"},
            ]
        )

    def split(self, body: bytes) -> list[bytes]:
        """Return the body in one to three chunks."""
        cuts = sorted(self.random.randint(0, len(body)) for _ in range(self.random.randint(0, 2)))
        return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
