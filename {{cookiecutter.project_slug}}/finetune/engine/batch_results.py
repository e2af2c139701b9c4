"""The results of a batch: a line for each request, collected in one file and divided into two at the end."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Literal, cast

from typing_extensions import TypedDict

from finetune.engine.api_errors import ErrorEnvelope, as_refusal
from finetune.engine.batch_queue import get, results_path, set_status
from finetune.engine.fingerprint import fingerprint_of
from finetune.engine.ids import new_id
from finetune.engine.inference.chat_completions import ChatCompletion
from finetune.engine.inference.generation_types import GeneratedAnswer
from finetune.engine.inference.text_completions import TextCompletion
from finetune.engine.store import Store

Answer = ChatCompletion | TextCompletion


class Response(TypedDict):
    status_code: int
    request_id: str
    body: Answer | ErrorEnvelope  # an answer if the status is 200


class Result(TypedDict):
    """A line of the output file or the error file."""

    id: str
    custom_id: str
    response: Response
    error: None


def make_result(
    store: Store,
    custom_id: str,
    model: str,
    choices: "Sequence[Future[GeneratedAnswer]]",
    make_answer: Callable[[Sequence[GeneratedAnswer], str | None], Answer],
) -> Result:
    """Return the result of a request whose choices are all done."""
    response: Response
    try:
        answer = make_answer([choice.result() for choice in choices], fingerprint_of(store, model))
        json.dumps(answer, allow_nan=False)  # damaged weights give NaN, which JSON does not have
        response = {"status_code": 200, "request_id": new_id("req_"), "body": answer}
    except Exception as error:
        refusal = as_refusal(error)
        response = {"status_code": refusal.status, "request_id": new_id("req_"), "body": refusal.envelope()}
    return {"id": new_id("batch_req_"), "custom_id": custom_id, "response": response, "error": None}


def answer_of(result: Result) -> Answer | None:
    """Return the completion of a result, or None if the result is an error."""
    response = result["response"]
    return cast("Answer", response["body"]) if response["status_code"] == 200 else None


def read_results(path: Path) -> Iterator[tuple[bytes, Result]]:
    """Yield each line of an unfinished batch's results and its content. A last line that a kill cut off is removed."""
    complete = 0
    path.touch(mode=0o600)
    with open(path, "r+b") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                break
            complete += len(line)
            yield line, json.loads(line)
        lines.truncate(complete)


def finish(store: Store, batch_id: str) -> None:
    """Write the output file and the error file, and end the batch as completed or cancelled."""
    path = results_path(store, batch_id)
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    completed = failed = 0
    for _, result in read_results(path):
        answer = answer_of(result)
        if answer:
            completed += 1
            usage["prompt_tokens"] += answer["usage"]["prompt_tokens"]
            usage["completion_tokens"] += answer["usage"]["completion_tokens"]
            usage["total_tokens"] += answer["usage"]["total_tokens"]
        else:
            failed += 1
    columns = {
        "output_file": result_file(store, batch_id, "output") if completed else None,
        "error_file": result_file(store, batch_id, "error") if failed else None,
        "usage": json.dumps(usage),
        "completed": completed,
        "failed": failed,
    }
    if not set_status(store, batch_id, "completed", ("finalizing",), **columns):
        set_status(store, batch_id, "cancelled", ("cancelling",), **columns)
    path.unlink()


def result_file(store: Store, batch_id: str, kind: Literal["output", "error"]) -> str:
    """Store the answers or the errors of a batch as a file and return its ID.

    The file is there already if a former process was killed after it wrote the file and before it ended the batch.
    """
    filename = f"{batch_id}_{kind}.jsonl"
    found = store.row("SELECT id FROM files WHERE filename = ? AND purpose = 'batch_output'", filename)
    if found:
        return str(found["id"])
    results = read_results(results_path(store, batch_id))
    lines = (line for line, result in results if (answer_of(result) is not None) == (kind == "output"))
    return store.add_file(filename, "batch_output", lines, expires_after=get(store, batch_id)["output_expires_after"])
