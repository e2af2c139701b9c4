"""`finetune rescue save` and `list`: large accounts, models that end, budgets, odd rows. Nothing is trained."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from loopback import completion
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import read_jsonl
from finetune.core.errors import FinetuneError
from finetune.pricing.catalogue import look_up
from finetune.rescue.into import read_saved
from finetune.rescue.questions import Asked, bound_of, questions_in_data

ROOT = Path(__file__).parents[1]
MODEL = "ft:tiny:org::model-0"
PARAMS = """\
data:
  file: data/raw/raw.csv
  prompt: {user: "{asked}", assistant: "{said}"}
  split: {train: 0.7, valid: 0.1, test: 0.2}
provider: {name: compatible, base_url: URL}
train: {base: tiny, method: supervised, n_epochs: 1, batch_size: auto, learning_rate_multiplier: auto, seed: 7}
evaluate: {max_tokens: 4, temperature: 0.0, concurrency: 4}
"""
PRICES = "[tiny.compatible]\ninput = 1000.0\noutput = 2000.0\n"
FOLDER = Path("data/rescued/ft-tiny-org--model-0")


class Account(ThreadingHTTPServer):
    """An account with many jobs. It answers in the form of OpenAI's API reference.

    Lists are `{"object": "list", "data": […], "has_more": …}` with `limit` and `after`. A file that is gone: 404 with
    `{"error": {"message": "No such File object: …", "type": "invalid_request_error", "param": "id", "code": null}}`. A
    model that is gone: 404 with the code `model_not_found`. A chat bills a token for each byte of the prompt, the most
    that it can be, and `max_tokens` for its answer.
    """

    request_queue_size = 128

    def __init__(self, jobs: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.have(jobs)
        self.files = {"file-0": chats(20)}
        self.checkpoints: list[dict[str, Any]] = []
        self.models = [MODEL]
        self.asked: list[str] = []
        self.answers_until: int | None = None  # then the model is gone
        self.wait = threading.Event()  # that answers wait for
        self.wait.set()
        self.says: dict[str, Any] = {}  # changes of an answer
        self.cut: dict[str, int] = {}  # by question: the limit below which its answer is cut
        self.usd = 0.0
        self.lock = threading.Lock()
        self.gets: list[str] = []

    def have(self, jobs: int) -> None:
        self.jobs = [job(number) for number in reversed(range(jobs))]  # the newest first

    def rows_of(self, path: str) -> list[dict[str, Any]] | None:
        lists = {
            "/v1/fine_tuning/jobs": self.jobs,
            "/v1/models": [{"id": name, "object": "model", "created": 1, "owned_by": "org"} for name in self.models],
            "/v1/files": [file_object(name, content) for name, content in self.files.items()],
        }
        if path.endswith("/checkpoints"):
            return [one for one in self.checkpoints if one["fine_tuning_job_id"] == path.split("/")[-2]]
        if path.endswith("/events"):
            return []
        return lists.get(path)

    def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.wait.wait()
        text, limit = str(body["messages"][-1]["content"]), body.get("max_tokens") or body["max_completion_tokens"]
        with self.lock:
            if self.answers_until is not None and len(self.asked) >= self.answers_until:
                message = f"The model `{body['model']}` does not exist or you do not have access to it."
                fields = {"type": "invalid_request_error", "param": None, "code": "model_not_found"}
                return 404, {"error": {"message": message, **fields}}
            self.asked.append(text)
            usage = {"prompt_tokens": len(json.dumps(body["messages"])), "completion_tokens": limit}
            self.usd += (usage["prompt_tokens"] * 1000 + usage["completion_tokens"] * 2000) / 1e6
        answer = completion(f"answer to {text}")
        is_cut = limit < self.cut.get(text, 0)
        answer["choices"][0]["finish_reason"] = "length" if is_cut else "stop"
        return 200, answer | {"model": body["model"], "usage": usage} | self.says


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Account

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.server.gets.append(url.path)
        name = url.path.removeprefix("/v1/files/").removesuffix("/content")
        rows = self.server.rows_of(url.path)
        if rows is not None:
            ids = [row["id"] for row in rows]
            first = ids.index(query["after"]) + 1 if "after" in query else 0
            page = rows[first : first + int(query.get("limit", 10_000))]
            more = first + len(page) < len(rows)
            self.reply(200, json.dumps({"object": "list", "data": page, "has_more": more}).encode())
        elif name in self.server.files:
            content = self.server.files[name]
            is_content = url.path.endswith("/content")
            self.reply(200, content if is_content else json.dumps(file_object(name, content)).encode())
        else:
            fields = {"type": "invalid_request_error", "param": "id", "code": None}
            error = {"message": f"No such File object: {name}", **fields}
            self.reply(404, json.dumps({"error": error}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, found = self.server.chat(body)
        self.reply(status, json.dumps(found).encode())

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def job(number: int) -> dict[str, Any]:
    return {
        "id": f"ftjob-{number}",
        "object": "fine_tuning.job",
        "created_at": number,
        "model": "tiny",
        "fine_tuned_model": f"ft:tiny:org::model-{number}",
        "organization_id": "org",
        "result_files": [f"file-results-{number}"],
        "seed": 1,
        "status": "succeeded",
        "hyperparameters": {"n_epochs": 2},
        "training_file": f"file-{number}",
        "validation_file": None,
    }


def checkpoint(name: str, model: str, step: int) -> dict[str, Any]:
    return {
        "id": name,
        "object": "fine_tuning.job.checkpoint",
        "created_at": step,
        "fine_tuning_job_id": "ftjob-0",
        "fine_tuned_model_checkpoint": model,
        "step_number": step,
        "metrics": {},
    }


def file_object(name: str, content: bytes) -> dict[str, Any]:
    size = {"bytes": len(content), "created_at": 1, "filename": f"{name}/adapter.bin"}
    return {"id": name, "object": "file", **size, "purpose": "fine-tune", "status": "processed"}


def chats(count: int) -> bytes:
    rows = [chat(f"question {number}", "right") for number in range(count)]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def chat(asked: str, said: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINETUNE_API_KEY", "key")
    Path("models.toml").write_text(PRICES, encoding="utf-8")
    with Account(2) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/v1"
        Path("params.yaml").write_text(PARAMS.replace("URL", address), encoding="utf-8")
        yield server
        server.wait.set()
        server.shutdown()
        thread.join()


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["rescue", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def manifest(name: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"manifest{name}.json").read_text(encoding="utf-8"))
    return found


def answered(name: str = "") -> list[str]:
    rows = read_jsonl(FOLDER / f"answers{name}.jsonl", "rescue")
    return [row["messages"][-1]["content"] for row in rows if "error" not in row]


@pytest.mark.slow
def test_all_jobs_of_a_large_account_are_listed_and_the_oldest_is_found(account: Account) -> None:
    account.have(500)
    found = json.loads(run("list", "--json"))
    assert len({one["model"] for one in found}) == 500
    assert account.gets.count("/v1/fine_tuning/jobs") == 5
    assert [one["model"] for one in found if one["training_file_is_there"]] == [MODEL]
    said = run("save", MODEL, "--usd", "1000")
    assert "rescue: the provider lacks: result file file-results-0 (404)" in said
    assert manifest()["missing"] == ["result file file-results-0 (404)"]
    assert len(answered()) == 20
    assert run("save", MODEL, "--usd", "1000")
    assert len(account.asked) == 20  # a second run sends no question
    account.jobs.clear()
    assert "lists no job with a fine-tuned model" in run("list")


def test_a_job_whose_files_are_gone_is_saved_without_them_and_asked_rows_of_a_file(account: Account) -> None:
    account.files.clear()
    with pytest.raises(FinetuneError, match=r"(?s)no question to ask .*Give rows with: --rows FILE"):
        run("save", MODEL, "--usd", "1000")
    assert (FOLDER / "job.json").exists()
    Path("new.csv").write_text("asked\nhello\n", encoding="utf-8")
    run("save", MODEL, "--usd", "1000", "--rows", "new.csv")
    assert answered("-new") == ["answer to hello"]
    assert manifest("-new")["missing"] == ["result file file-results-0 (404)", "training file file-0 (404)"]


def test_weights_of_two_folders_are_all_saved(account: Account) -> None:
    account.files |= {"file-a": b"a", "file-b": b"b"}
    account.checkpoints = [checkpoint("ftckpt-1", MODEL, 1) | {"result_files": ["file-a", "file-b"]}]
    run("save", MODEL, "--usd", "1000")
    assert {path.name: path.read_bytes() for path in (FOLDER / "weights").iterdir()} == {
        "adapter.bin": b"a",
        "file-b-adapter.bin": b"b",
    }


# Of one job, as OpenAI's API reference prints them: the last part before `ckpt-step` is another one each time.
CHECKPOINTS = {
    "ftckpt_zc4Q7MP6XxulcVzj4MZdwsAB": "ft:tiny:org::96olL566:ckpt-step-2000",
    "ftckpt_enQCFmOTGj3syEpYVhBRLTSy": "ft:tiny:org::7q8mpxmy:ckpt-step-1000",
}


@pytest.mark.slow
def test_a_checkpoint_is_found_by_its_name_and_by_ids(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    text = Path("params.yaml").read_text(encoding="utf-8").replace("name: compatible", "name: openai")
    Path("params.yaml").write_text(text, encoding="utf-8")
    steps = zip(CHECKPOINTS.items(), (2000, 1000), strict=True)
    account.checkpoints = [checkpoint(*pair, step) for pair, step in steps]
    account.have(30)
    Path("new.csv").write_text("asked\nhello\n", encoding="utf-8")
    for name, model in CHECKPOINTS.items():
        for given in (model, name, f"ftjob-0:{name}"):
            said = run("save", given, "--yes", "--rows", "new.csv")
            assert f"1 answers of {model} in {FOLDER.parent}/ft-tiny-org--{model.split(':')[4]}-ckpt" in said
        assert f"{name} is {model} of job ftjob-0" in run("save", name, "--yes", "--rows", "new.csv")
    assert len(account.asked) == 2
    assert f"ftjob-0 is {MODEL} of job" in run("save", "ftjob-0", "--yes", "--rows", "new.csv")
    gets = len(account.gets)
    for other in ("gpt-4o", "ft:tiny:org::other"):  # no name of a checkpoint: no list is asked for it
        with pytest.raises(FinetuneError, match=f"no job with the model, checkpoint or ID {other}"):
            run("save", other)
    assert len(account.gets) == gets + 2
    with pytest.raises(FinetuneError, match="no job with the model"):
        run("save", "ft:tiny:org::other:ckpt-step-3")


def test_answers_that_another_machine_has_paid_are_not_asked_again(
    account: Account, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("save", MODEL, "--usd", "0.3")
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "other-home"))
    said = run("save", MODEL, "--usd", "1000")
    assert "2 of 20 questions are answered already" in said
    assert "asking 18 of 20 questions costs at most" in said
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "third-home"))
    before = (FOLDER / "answers.jsonl").read_bytes()
    Path("models.toml").unlink()  # nothing is asked, so no price is needed, and nobody is asked to confirm
    for options in (["--usd", "0"], []):
        said = run("save", MODEL, *options)
        assert "20 of 20 questions are answered already" in said
        assert "costs" not in said
    assert (FOLDER / "answers.jsonl").read_bytes() == before
    assert len(account.asked) == len(set(account.asked)) == 20
    FOLDER.rename("elsewhere")
    Path(f"{FOLDER}.dvc").write_text("outs: []", encoding="utf-8")
    with pytest.raises(FinetuneError, match=f"(?s)is in DVC, and not here.*dvc pull {FOLDER}.dvc"):
        run("save", MODEL, "--usd", "1000")
    assert len(account.asked) == 20


def test_only_answers_that_were_cut_are_asked_with_a_higher_limit(account: Account) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("new.csv").write_text("asked\nlong\nshort\n", encoding="utf-8")
    account.cut = {"long": 8}
    command = ("save", MODEL, "--rows", "new.csv", "--usd", "1000")
    assert "1 answers were cut" in run(*command)
    assert sorted(account.asked) == ["long", "short"]
    for limit, asked in ((4, []), (6, ["long"]), (6, []), (9, ["long"]), (20, [])):
        account.asked.clear()
        Path("params.yaml").write_text(text.replace("max_tokens: 4", f"max_tokens: {limit}"), encoding="utf-8")
        said = run(*command)
        assert account.asked == asked
        assert ("were cut" in said) == (limit < 9)
    assert answered("-new") == ["answer to long", "answer to short"]


def test_a_model_that_is_gone_is_not_asked(account: Account) -> None:
    account.models = ["ft:tiny:org::model-1"]
    with pytest.raises(FinetuneError, match=f"is no longer at the provider, so it cannot be asked.*{FOLDER}"):
        run("save", MODEL, "--usd", "1000")
    assert not account.asked
    assert (FOLDER / "training.jsonl").exists()
    account.models = [MODEL]
    run("save", MODEL, "--usd", "0.3")
    for name in ("manifest.json", "answers.jsonl"):  # as if it had been killed while it asked
        (FOLDER / name).unlink()
    account.models = ["ft:tiny:org::model-1"]
    with pytest.raises(FinetuneError, match="is no longer at the provider"):
        run("save", MODEL, "--usd", "1000")
    assert len(answered()) == 2
    assert (manifest()["asked"], manifest()["not_asked"]) == (2, 18)
    assert len(account.asked) == 2


def test_the_list_says_what_is_left_to_do_in_80_columns(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Path("models.toml").write_text(f"{PRICES}shutdown = 2099-01-14\n", encoding="utf-8")
    run("save", MODEL, "--usd", "0.3")
    account.have(3)
    lines = run("list").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[1:] == [MODEL, "there", "2", "answers"]
    assert lines[2].strip() == "ftjob-0, epochs 2"
    assert [line.split()[0] for line in lines[3:7:2]] == ["gone", "gone"]
    assert lines[-1] == "3 models, 1 of them saved in data/rescued. 3 will be shut down on 2099-01-14."
    (found, *_) = json.loads(run("list", "--json"))
    assert found["hyperparameters"] == {"n_epochs": 2}
    assert found["saved_answers"] == 2
    shutil.rmtree(FOLDER)
    assert run("list").splitlines()[-1] == f"Next: finetune rescue save {MODEL}"


def test_rows_of_a_file_with_the_name_of_the_training_data_are_not_taken_for_it(account: Account) -> None:
    Path("training.jsonl").write_bytes(chats(30))
    run("save", MODEL, "--usd", "1000")
    run("save", MODEL, "--usd", "1000", "--rows", "training.jsonl")
    assert len(account.asked) == 30
    assert "20 train, 0 valid, 10 test" in read_saved(None, "original").summary()


def test_the_answers_of_a_model_that_ends_half_way_are_saved(account: Account) -> None:
    account.answers_until = 7
    for _ in range(2):  # the second time, nothing is answered any more
        with pytest.raises(FinetuneError, match=f"The model `{MODEL}` does not exist"):
            run("save", MODEL, "--usd", "1000")
        assert sorted(answered()) == sorted(f"answer to {text}" for text in account.asked)
        assert (manifest()["asked"], manifest()["not_asked"]) == (7, 13)
    assert read_saved(None, "model").summary().startswith(f"7 rows of {MODEL}: ")
    account.answers_until = None  # and if it comes back, only the rest is asked
    run("save", MODEL, "--usd", "1000")
    assert len(account.asked) == len(set(account.asked)) == len(answered()) == 20


def test_a_smaller_budget_and_another_file_of_the_same_name_lose_no_answer(account: Account) -> None:
    run("save", MODEL, "--usd", "1000")
    assert "20 of 20 questions are answered already" in run("save", MODEL, "--usd", "0.3")
    assert len(answered()) == 20
    assert manifest()["not_asked"] == 0
    for folder in ("one", "two"):
        Path(folder).mkdir()
        Path(folder, "test.csv").write_text(f"asked\nof {folder}\n", encoding="utf-8")
        run("save", MODEL, "--usd", "1000", "--rows", f"{folder}/test.csv")
    assert answered("-test") == ["answer to of two", "answer to of one"]
    assert manifest("-test")["answers_of_earlier_rows"] == 1


def test_the_budget_holds_to_the_cent_where_questions_are_asked_together(account: Account) -> None:
    """The account bills the most that it can."""
    for usd in (0.5, 1.0, 1.37):
        run("save", MODEL, "--usd", str(usd))
        assert 0 < account.usd <= usd
        assert account.usd == pytest.approx(manifest()["usd"])
    assert len(account.asked) == len(set(account.asked)) > 5


def test_a_price_that_is_unknown_is_said_and_never_counted_as_nothing(account: Account) -> None:
    account.says = {"usage": None}
    assert " for $" not in run("save", MODEL, "--usd", "0.3")
    assert manifest()["usd"] is None
    Path("models.toml").unlink()
    with pytest.raises(FinetuneError, match=r"price of calls of tiny's fine-tunes is unknown, so --usd 1000"):
        run("save", MODEL, "--usd", "1000")
    asked = CliRunner().invoke(app, ["rescue", "save", MODEL], input="n\n")
    assert asked.exit_code == 1
    assert "costs an unknown amount" in asked.output
    assert len(account.asked) == 2
    assert " for $" not in run("save", MODEL, "--yes")
    assert len(account.asked) == 20


@pytest.mark.slow
def test_two_that_save_one_model_at_once_ask_each_question_once(account: Account) -> None:
    account.wait.clear()
    command = [sys.executable, "-m", "finetune", "rescue", "save", MODEL, "--usd", "1000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    waiting = threading.Event()

    def read(stream: Any) -> None:
        for line in stream:
            if "waiting for another run that saves" in line:
                waiting.set()

    readers = [threading.Thread(target=read, args=(one.stderr,)) for one in runs]
    for reader in readers:
        reader.start()
    assert waiting.wait(600)
    account.wait.set()
    assert [one.wait() for one in runs] == [0, 0]
    for reader in readers:
        reader.join()
    assert len(account.asked) == len(set(account.asked)) == 20
    assert not json.loads((FOLDER / "asking.json").read_text(encoding="utf-8"))["runs"]


FILES = {
    "empty.csv": b"",
    "head.csv": b"asked,said\n",
    "blank.csv": b"asked,said\n,\n , \n",
    "other.csv": b"a,b\n1,2\n",
    "mark.csv": b"\xef\xbb\xbfasked,said\r\nhello,there\r\n",
    "wide.csv": b"asked,said\nhello,there,and,more\n",
    "zeros.csv": b"asked\0,said\nhel\0lo,there\n",
    "latin.csv": "asked,said\nna\u00efve,caf\u00e9\n".encode("latin-1"),
    "picture.csv": b"\x89PNG\r\n\x1a\n\x00\x00",
    "empty.jsonl": b"",
    "list.json": b'[{"asked": "hello", "said": "there"}, 3, null]',
    "broken.jsonl": b'{"asked": "hello"}\n{"asked": \n',
    "numbers.jsonl": b'{"asked": 3.0, "said": null}\n{"asked": [1, 2]}\n{"asked": {"a": 1}}\n',
    "half-emoji.jsonl": b'{"asked": "hello \\ud83d", "said": "there"}\n{"asked": "hello"}\n',
    "chats.jsonl": json.dumps(chat("hello", "there")).encode() + b"\n",
    "question.jsonl": b'{"messages": [{"role": "user", "content": "hello"}]}\n',
    "no-question.jsonl": b'{"messages": []}\n{"messages": [{"role": "system", "content": "x"}]}\n{"messages": "x"}\n',
    "no-role.jsonl": b'{"messages": [{"content": "hello"}]}\n{"messages": [3]}\n{"messages": [null, {}]}\n',
    "deep.jsonl": b'{"asked": ' + b"[" * 3000 + b"]" * 3000 + b"}\n",
}


@pytest.mark.slow
def test_rows_in_any_form_are_asked_or_refused_with_a_reason(account: Account) -> None:
    said: dict[str, str] = {}
    for name, content in FILES.items():
        Path(name).write_bytes(content)
        done = CliRunner().invoke(app, ["rescue", "save", MODEL, "--usd", "1000", "--rows", name])
        if done.exit_code:
            assert isinstance(done.exception, FinetuneError), (name, repr(done.exception))
            assert done.exception.remedy, name
        said[name] = f"{done.output}{done.exception or 'asked'}"
        assert "attribute" not in said[name]
    asked = {name for name, how in said.items() if how.endswith("asked")}
    assert asked == {"mark.csv", "numbers.jsonl", "chats.jsonl", "question.jsonl", "no-question.jsonl", "no-role.jsonl"}
    assert "rows left out: 1 (`messages` is empty)" in said["no-question.jsonl"]
    assert "rows left out: 2 (messages has an entry that is not an object)" in said["no-role.jsonl"]
    assert "(rows left out: 2, no question: asked is empty)" in said["blank.csv"]


def test_an_answer_that_ends_in_half_an_emoji_is_saved(account: Account) -> None:
    account.says = completion("hello \ud83d") | {"model": MODEL}
    Path("new.csv").write_text("asked\nhello\n", encoding="utf-8")
    run("save", MODEL, "--usd", "1000", "--rows", "new.csv")
    assert answered("-new") == ["hello \ufffd"]


ODD_LINES = [
    '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
    '{"input": {"messages": [{"role": "user", "content": "c"}]}, "preferred_output": [{"content": "d"}]}',
    '{"messages": ["a", "b"]}',
    '{"messages": null}',
    '{"input": {"messages": null}, "preferred_output": "x"}',
    '{"input": {}, "preferred_output": []}',
    '{"instruction": "a", "output": "b"}',
    '{"messages": [{"role": "user", "content": "a"}]}',
    '{"functions": [{}], "messages": [{"role": "user"}, {"role": "assistant", "content": "b"}]}',
    '{"messages": [{"role": "user"}, {"role": "assistant", "function_call": {}, "content": "x"}]}',
    '{"messages": [{"role": "user"}, {"role": "assistant", "function_call": {"name": "f"}}]}',
    '{"messages": [{"role": "user"}, {"role": "assistant", "content": "b", "weight": 0}]}',
    '{"messages": [{"role": "user", "content": "\\ud83d"}, {"role": "assistant", "content": "b"}]}',
    "[]",
    "{",
]


def test_training_data_in_any_form_give_the_questions_that_they_have(tmp_path: Path) -> None:
    (tmp_path / "training.jsonl").write_text("\n".join(ODD_LINES), encoding="utf-8")
    found: Asked = questions_in_data(tmp_path)
    assert list(zip(found.places, found.expected, strict=True)) == [
        ("training.jsonl:1", "b"),
        ("training.jsonl:2", "d"),
        ("training.jsonl:10", "x"),
    ]
    assert found.left_out == {
        "no chat that ends with an answer": 6,
        "calls of tools": 2,
        "its last answer is not trained (weight 0)": 1,
        "no JSON object": 3,
    }


def test_an_image_of_unknown_size_counts_as_the_largest() -> None:
    base = look_up("gpt-4o-2024-08-06", "openai")
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    small = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}

    def bound(*parts: dict[str, Any]) -> int:
        return bound_of([{"role": "user", "content": list(parts)}], base, lambda _: 100)

    assert bound() == bound(small) == 100  # what the counter counts
    assert bound(image, image) == 100 + 2 * 8 * 170
