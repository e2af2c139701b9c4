"""`finetune doubtful`: planted wrong answers are found, in every kind of task, and good data have no false alarms."""

import csv
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import completion, refusal, server
from ruamel.yaml import YAML
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.disk import parse_csv, write_json, write_jsonl
from finetune.core.errors import FinetuneError
from finetune.core.paths import PREPARED, PREPARED_REPORT
from finetune.data.doubtful import Answered, find_doubtful, predict_from_other_rows, read_answered

STARTERS = Path(__file__).parents[1] / "starters"
DATA = Path(__file__).parents[1] / "data/raw"
REVIEWED = 50  # rows that a person reads


def raw_file(starter: str, name: str) -> Path:
    """Return a starter's raw file; skip the test in a project generated from another starter."""
    path = next((path for path in (DATA / name, STARTERS / starter / "data" / name) if path.exists()), None)
    return path or pytest.skip(f"this project has no files of the starter {starter}")


def rows_of(name: str, question: str, answer: str, starter: str) -> list[Answered]:
    with open(raw_file(starter, name), encoding="utf-8", newline="") as lines:
        return [Answered(name, n, row[question], row[answer]) for n, row in enumerate(csv.DictReader(lines), 1)]


def conversations() -> list[Answered]:
    rows = []
    with open(raw_file("generate", "conversations.jsonl"), encoding="utf-8") as lines:
        for line in lines:
            texts = [message["content"] for message in json.loads(line)["messages"]]
            rows += [Answered("x", 0, "\n".join(texts[:end]), texts[end]) for end in range(1, len(texts), 2)]
    return [row._replace(line=n) for n, row in enumerate(rows, 1)]


def figures(order: Sequence[int], planted: set[int]) -> tuple[float, float]:
    """Return the precision of the first fifty, and the share of the planted rows that are among them."""
    hits = sum(line in planted for line in order[:REVIEWED])
    return hits / min(REVIEWED, len(order)), hits / len(planted)


@pytest.mark.slow
def test_planted_wrong_classes_are_found() -> None:
    true = rows_of("messages.csv", "message", "team", "classify")
    draw = random.Random(1)
    teams = sorted({row.answer for row in true})
    planted = set(draw.sample(range(1, len(true) + 1), len(true) // 20))
    rows = [
        row._replace(answer=draw.choice([team for team in teams if team != row.answer])) if row.line in planted else row
        for row in true
    ]
    found = find_doubtful(rows)
    precision, recall = figures([row["line"] for row in found], planted)
    all_recall = sum(row["line"] in planted for row in found) / len(planted)
    # The rival without cleanlab: all rows by the probability of their answer, without saying where to stop.
    given = np.array([teams.index(row.answer) for row in rows])
    certainty = predict_from_other_rows(rows, given)[np.arange(len(rows)), given]
    rival = figures((np.argsort(certainty, kind="stable") + 1).tolist(), planted)
    print(
        f"{len(planted)} of {len(rows)} classes are wrong: {len(found)} listed, which have {all_recall:.2f} of them; "
    )
    print(f"precision at 50 {precision:.2f}, recall at 50 {recall:.2f}; sorted without cleanlab: {rival}")
    assert precision >= 0.5
    assert recall >= 0.6
    assert all_recall >= 0.65
    assert len(found) <= len(rows) / 8
    right = {row.line: row.answer for row in true}
    repaired = [row["suggested"] == right[row["line"]] for row in found if row["line"] in planted]
    assert sum(repaired) >= 0.75 * len(repaired)
    assert found == find_doubtful(rows)


@pytest.mark.parametrize("starter", ["extract", "generate"])
def test_answers_of_other_questions_are_found(starter: str) -> None:
    true = conversations() if starter == "generate" else rows_of("recipes.csv", "recipe", "ingredients", "extract")
    planted = random.Random(0).sample(range(len(true)), len(true) // 20)
    rows = list(true)
    for place, source in zip(planted, [*planted[1:], planted[0]], strict=True):
        rows[place] = true[place]._replace(answer=true[source].answer)
    lines = {number + 1 for number in planted if rows[number].answer != true[number].answer}
    found = find_doubtful(rows)
    recall = sum(row["line"] in lines for row in found) / len(lines)
    print(
        f"{starter}: {len(lines)} of {len(rows)} answers are another row's; the listed tenth has {recall:.2f} of them"
    )
    assert len(found) == round(len(rows) / 10)
    assert recall >= 0.75
    assert {row["suggested"] for row in found} == {""}


LETTERS = {
    "japanese": ("荷物がまだ届きません、{n}日待っています", "請求書の金額が違います、{n}円多いです"),
    "korean": ("택배가 아직 도착하지 않았어요 {n}일째예요", "청구서 금액이 {n}원 잘못됐어요"),
    "chinese": ("包裹还没有到，已经等了{n}天", "发票金额不对，多收了{n}元"),
}


@pytest.mark.parametrize("script", LETTERS)
def test_scripts_without_spaces_are_judged(script: str) -> None:
    rows = [
        Answered("a", n, LETTERS[script][n % 2].format(n=n * 37), ["delivery", "billing"][n % 2]) for n in range(80)
    ]
    rows[10] = rows[10]._replace(answer="billing")
    [found] = find_doubtful(rows)
    assert (found["line"], found["answer"], found["suggested"]) == (10, "billing", "delivery")
    assert found["score"] < 0.2


def test_good_data_have_no_doubtful_rows_and_copies_do_not_prove_each_other() -> None:
    rows = [Answered("a", n, LETTERS["korean"][n % 2].format(n=n * 37), str(n % 2)) for n in range(80)]
    assert find_doubtful(rows) == []
    wrong = [rows[4]._replace(answer="1", line=line, question=rows[4].question.upper()) for line in range(100, 108)]
    assert {row["line"] for row in find_doubtful([*rows, *wrong])} >= set(range(100, 108))


def test_small_classes_are_left_out() -> None:
    rows = [Answered("a", n, LETTERS["korean"][n % 2].format(n=n * 37), str(n % 2)) for n in range(80)]
    rare = [Answered("a", 90 + n, LETTERS["korean"][0].format(n=n), "rare") for n in range(4)]
    skipped = Counter[str]()
    assert find_doubtful([*rows, *rare], skipped=skipped) == []
    assert skipped == {"of classes with fewer than 5 different questions": 4}
    for others, said in (([row._replace(answer="one") for row in rows], "is one"), (rare * 20, "are none")):
        with pytest.raises(FinetuneError, match=f"different questions each, and there {said}"):
            find_doubtful(others)


def test_answers_without_the_words_of_their_questions_are_refused() -> None:
    draw = random.Random(0)
    rows = [
        Answered("a", n, "".join(draw.choices("abcdefg ", k=60)), "".join(draw.choices("nopqrst ", k=60)))
        for n in range(60)
    ]
    with pytest.raises(FinetuneError, match="share no wording with their questions"):
        find_doubtful(rows)


# The command


def example(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    teams = "01"
    examples = [example(LETTERS["japanese"][n % 2].format(n=n * 37), teams[n % 2]) for n in range(90)]
    examples[7] = example(f'\x1b[31m{LETTERS["japanese"][1].format(n=9)}, "{"x" * 99}"', "0")
    for split, part in (("train", examples[:60]), ("valid", examples[60:70]), ("test", examples[70:])):
        write_jsonl(PREPARED / f"{split}.jsonl", part)
    write_json(PREPARED_REPORT, {"codes": {"delivery": "0", "billing": "1"}, "completion": None})


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["doubtful", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.mark.usefixtures("_project")
def test_the_list_is_on_the_screen_in_csv_and_in_json() -> None:
    output = run()
    assert "data/prepared/train.jsonl:8" in output
    assert "the other rows say" in output
    assert "1 of 90 rows to review; all of them in reports/doubtful.csv" in output
    assert "\x1b[31m" not in output
    assert "x" * 99 not in output
    [row] = parse_csv(Path("reports/doubtful.csv").read_text(encoding="utf-8"))
    assert list(row) == ["file", "line", "answer", "suggested", "score", "question"]
    assert (row["line"], row["answer"], row["suggested"]) == ("8", "delivery", "billing")
    assert row["question"].endswith(f'"{"x" * 99}"')
    [found] = json.loads(run("--json", "--output", "other.csv"))
    assert Path("other.csv").read_bytes() == Path("reports/doubtful.csv").read_bytes()
    assert found["suggested"] == "billing"


@pytest.mark.usefixtures("_project")
def test_a_file_of_the_user_is_read_as_it_is() -> None:
    write_jsonl(Path("own.jsonl"), [json.loads(line) for line in (PREPARED / "train.jsonl").read_bytes().splitlines()])
    [found] = json.loads(run("own.jsonl", "--json"))
    assert (found["file"], found["line"], found["answer"], found["suggested"]) == ("own.jsonl", 8, "0", "1")


def test_an_answer_is_the_last_trained_one_and_a_question_has_its_own_context(tmp_path: Path) -> None:
    def row(n: int) -> dict[str, Any]:
        system = {"role": "system", "content": f"document {n}"}
        tail = [{"role": "user", "content": "thanks"}, {"role": "assistant", "content": "bye", "weight": 0}]
        return {"messages": [system, *example("Which?", f"a{n}")["messages"], *tail]}

    write_jsonl(tmp_path / "a.jsonl", [row(n) for n in range(60)])
    assert read_answered([tmp_path / "a.jsonl"])[7][2:] == ("document 7\nWhich?", "a7")


def test_rows_that_cannot_be_judged_are_counted_by_the_reason(tmp_path: Path) -> None:
    image = [{"type": "image_url", "image_url": {"url": "https://a.org/1.png"}}, {"type": "text", "text": "q"}]
    rows = [example(f"question {n}", "a") for n in range(60)]
    rows += [example(image, "a")] * 3 + [{"messages": rows[0]["messages"][:1]}] * 2  # type: ignore[arg-type]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [call]}]
    write_jsonl(tmp_path / "a.jsonl", [*rows, {"messages": turns}])
    skipped = Counter[str]()
    assert read_answered([tmp_path / "a.jsonl"], skipped=skipped)[-1][3] == '{"arguments":"{}","name":"f"}'
    assert skipped == {"with an image, audio or a file": 3, "without a question and an answer to train on": 2}
    write_jsonl(tmp_path / "b.jsonl", rows[60:])
    with pytest.raises(FinetuneError, match=r"there are 0 \(not judged: 3 with an image, audio or a file, 2 without"):
        read_answered([tmp_path / "b.jsonl"])


def test_completions_are_read_without_their_marks(tmp_path: Path) -> None:
    marks = {"separator": " ->", "lead": " ", "stop": " END"}
    write_jsonl(tmp_path / "a.jsonl", [{"prompt": f"question {n} ->", "completion": " 0 END"} for n in range(60)])
    prepared: Any = {"codes": {"billing": "0"}, "completion": marks}
    assert read_answered([tmp_path / "a.jsonl"], prepared)[3][2:] == ("question 3", "billing")


@pytest.mark.parametrize(("count", "most", "message"), [(49, 100, "Add rows"), (120, 100, "Give one split")])
def test_too_few_or_too_many_rows_are_refused(tmp_path: Path, count: int, most: int, message: str) -> None:
    write_jsonl(tmp_path / "a.jsonl", [example(f"question {n}", "a") for n in range(count)])
    with pytest.raises(FinetuneError, match=f"{count}.*\n?.*{message}"):
        read_answered([tmp_path / "a.jsonl"], most=most)


# By a model: a server with vLLM's log-probabilities, a token for each character. After a question, the characters that
# it has are likely.


def vllm_reply(body: dict[str, Any], before_answer: str = "") -> dict[str, Any]:
    """Return what vLLM returns for a prompt: the own token of each place, and null for the first."""
    *asked, last = body["messages"]
    text = "".join(f"<{turn['role']}>{turn['content']}\n" for turn in asked) + "<assistant>" + before_answer
    known = set("".join(turn["content"] for turn in asked))
    tokens = [(ord(letter), -0.5) for letter in text]
    tokens += [(ord(letter), -0.1 if letter in known else -4.0) for letter in last["content"]] + [(1, -0.3), (10, -9.0)]
    places = [
        {str(token): {"logprob": logprob, "rank": 1, "decoded_token": chr(token)}} for token, logprob in tokens[1:]
    ]
    return completion("x") | {"prompt_logprobs": [None, *places]}


class Server:
    """The bodies that it got, and the reply to each."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.reply: Callable[[dict[str, Any]], Any] = vllm_reply

    def answer(self, body: dict[str, Any]) -> Any:
        self.bodies.append(body)
        found = self.reply(body)
        return found if isinstance(found, tuple) else (200, found, {})


WORDS = ("flour", "sugar", "honey", "thyme", "mango", "olive")


@pytest.fixture
def asked_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Yield the server of a project with 60 recipes, whose rows 8 and 31 have answers of other recipes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FINETUNE_API_KEY", "a-key-of-the-test")
    examples = [example(f"{n} g of {WORDS[n % 6]}", f"{WORDS[n % 6]} {n}") for n in range(60)]
    examples[7]["messages"][1] |= {"content": "jumbo prawns", "weight": 1}
    examples[30]["messages"][1]["content"] = "cumin"
    write_jsonl(Path("own.jsonl"), examples)
    found = Server()
    with server(found.answer) as address:
        write_project(address)
        yield found


def write_project(address: str) -> None:
    auto = dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    values = {
        "data": {"file": "own.jsonl", "split": {"train": 0.7, "valid": 0.1, "test": 0.2}},
        "provider": {"name": "compatible", "base_url": address},
        "train": {"base": "the-base", "method": "supervised", "seed": 1, **auto},
        "evaluate": {"task": "extract", "max_tokens": 8, "temperature": 0, "concurrency": 4},
    }
    with open("params.yaml", "w", encoding="utf-8") as file:
        YAML().dump(values, file)


def test_a_model_finds_the_answers_that_its_questions_do_not_explain(asked_server: Server) -> None:
    found = json.loads(run("own.jsonl", "--model", "base", "--json"))
    assert [row["line"] for row in found[:2]] == [31, 8]
    assert len(found) == 6
    # The loss of cumin and its end is 5 × 4 + 0.3 alone; its question has a u, so there it is 4 × 4 + 0.1 + 0.3.
    assert found[0] == {
        "file": "own.jsonl", "line": 31, "answer": "cumin", "suggested": "", "score": 0.192, "question": "30 g of flour"
    }  # fmt: skip
    assert found[2]["score"] > 0.8
    rows = parse_csv(Path("reports/doubtful.csv").read_text(encoding="utf-8"))
    assert [row["line"] for row in rows] == [str(row["line"]) for row in found]
    first, *_, last = asked_server.bodies
    for body in (first, last):
        assert body["model"] == "the-base"
        assert body["max_tokens"] == 1
        assert (body["prompt_logprobs"], body["add_generation_prompt"]) == (0, False)
    assert first["messages"] == [{"role": "user", "content": "?"}, {"role": "assistant", "content": "a"}]
    assert len(asked_server.bodies) == 2 + 60 + 60
    assert all("weight" not in turn for body in asked_server.bodies for turn in body["messages"])


def test_the_screen_says_which_model_judged(asked_server: Server) -> None:
    output = run("own.jsonl", "--model", "ft:mine")
    assert "explain their answers least, by ft:mine" in output
    assert "no model judged" not in output
    assert "the other rows say" not in output
    assert {body["model"] for body in asked_server.bodies} == {"ft:mine"}


@pytest.mark.parametrize(
    "reply",
    [
        lambda body: completion("x"),
        lambda body: completion("x") | {"prompt_logprobs": None},
        lambda body: completion("x") | {"prompt_logprobs": [None, -0.5, -0.1]},
        lambda body: (400, refusal("unknown_parameter", "Unrecognized request argument supplied: prompt_logprobs"), {}),
    ],
    ids=["ignored", "null", "another form", "refused"],
)
def test_a_server_without_them_is_asked_once(asked_server: Server, reply: Any) -> None:
    asked_server.reply = reply
    done = CliRunner().invoke(app, ["doubtful", "own.jsonl", "--model", "base"])
    assert done.exit_code == 1
    assert isinstance(done.exception, FinetuneError)
    assert "gives no log-probabilities of given answers" in str(done.exception)
    assert "without --model" in str(done.exception)
    assert len(asked_server.bodies) == 1
    assert not Path("reports/doubtful.csv").exists()


@pytest.mark.slow
def test_what_the_template_puts_before_an_answer_does_not_count(asked_server: Server) -> None:
    plain = run("own.jsonl", "--model", "base", "--json")
    asked_server.reply = lambda body: vllm_reply(body, "<think>\n\n</think>\n\n")
    assert run("own.jsonl", "--model", "base", "--json") == plain


@pytest.mark.slow
def test_rows_that_the_server_refuses_are_counted(asked_server: Server) -> None:
    def reply(body: dict[str, Any]) -> Any:
        too_long = body["messages"][0]["content"].startswith("5 g")
        return (400, refusal("context_length_exceeded", "too long"), {}) if too_long else vllm_reply(body)

    asked_server.reply = reply
    assert "not judged: 1 that the-base cannot judge (the first: 400 too long)" in run("own.jsonl", "--model", "base")
    asked_server.reply = lambda body: (
        vllm_reply(body) if body["messages"][0]["content"] == "?" else (400, refusal("x", "no"), {})
    )
    with pytest.raises(FinetuneError, match="the-base can judge none of 60 rows: 400 no"):
        CliRunner().invoke(app, ["doubtful", "own.jsonl", "--model", "base"], catch_exceptions=False)


def test_prompts_and_completions_are_not_judged_by_a_model(asked_server: Server) -> None:
    write_jsonl(Path("own.jsonl"), [{"prompt": f"question {n} ->", "completion": f" {n} END"} for n in range(60)])
    with pytest.raises(FinetuneError, match="chat examples only"):
        CliRunner().invoke(app, ["doubtful", "own.jsonl", "--model", "base"], catch_exceptions=False)
    assert not asked_server.bodies
