"""Tokens of tools, names, refusals, calls and images, and what is said where they are not known."""

import base64
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from finetune.cli import app
from finetune.core.errors import FinetuneError
from finetune.data.checks.check_file import check_file
from finetune.data.token_counts import counter, encoder, tiles
from finetune.pricing.catalogue import look_up

USER, ANSWER = {"role": "user", "content": "荷物はどこですか"}, {"role": "assistant", "content": "配送"}
CHAT: dict[str, Any] = {"messages": [USER, ANSWER]}
PARCEL = {
    "name": "find_parcel",
    "description": "Find a parcel.",
    "parameters": {
        "type": "object",
        "properties": {
            "number": {"type": "string", "description": "The number on the label."},
            "carrier": {"type": "string", "description": "Who has it", "enum": ["post", "courier"]},
        },
    },
}
VISION = "gpt-4o-2024-08-06"


def length(text: str) -> int:
    return len(encoder("o200k_base")(text))


def with_tools(*functions: Any) -> dict[str, Any]:
    return {**CHAT, "tools": [{"type": "function", "function": function} for function in functions]}


def cost_of(example: dict[str, Any], encoding: str = "o200k_base") -> int:
    """Return how many more tokens an example has than the plain chat."""
    count = counter(encoding)
    return count(example) - count(CHAT)


def png(width: int, height: int) -> str:
    """Return the data URL of a PNG image of one color."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(width // 8 + 2) * height))
    return (
        "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")).decode()
    )


def image(url: str, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def with_images(*images: dict[str, Any]) -> dict[str, Any]:
    content = [{"type": "text", "text": USER["content"]}, *images]
    return {"messages": [{"role": "user", "content": content}, ANSWER]}


def write(path: Path, *examples: Any) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in examples), encoding="utf-8")
    return path


def estimate(path: Path, base: str = VISION) -> tuple[dict[str, Any], str, str]:
    """Return the JSON of `finetune estimate`, and its table and its notes for people."""
    run = CliRunner().invoke
    made = run(app, ["estimate", str(path), "--base", base, "--json"])
    shown = run(app, ["estimate", str(path), "--base", base])
    assert made.exit_code == shown.exit_code == 0, made.output
    return json.loads(made.stdout), shown.stdout, shown.stderr


def test_tools_count_by_the_formula_of_the_cookbook() -> None:
    carrier = 3 + length("carrier:string:Who has it") - 3 + 3 + length("post") + 3 + length("courier")
    number = 3 + length("number:string:The number on the label")
    properties = 3 + number + carrier
    assert cost_of(with_tools(PARCEL)) == 7 + length("find_parcel:Find a parcel") + properties + 12
    # By hand: lines of 7 tokens each, and enum items of 1.
    assert cost_of(with_tools(PARCEL)) == 7 + 7 + 3 + (3 + 7) + (3 + 7 - 3 + 2 * (3 + 1)) + 12
    assert cost_of(with_tools(PARCEL), "cl100k_base") - cost_of(with_tools(PARCEL)) in (3, 4)


def test_the_end_of_declarations_counts_once() -> None:
    """The cookbook adds the 12 tokens after its loop over the functions."""
    one, names = cost_of(with_tools({"name": "stop"})), ("stop", "go", "wait")
    assert one == 7 + length("stop:") + 12
    several = with_tools(*({"name": name} for name in names))
    assert cost_of(several) == sum(7 + length(f"{name}:") for name in names) + 12


def test_functions_count_like_tools_and_an_empty_list_costs_nothing() -> None:
    assert cost_of({**CHAT, "functions": [PARCEL]}) == cost_of(with_tools(PARCEL))
    assert cost_of({**CHAT, "tools": []}) == 0
    assert cost_of(with_tools({"name": "stop"})) == 7 + length("stop:") + 12


def test_nested_properties_count_too() -> None:
    street = {"type": "object", "properties": {"street": {"type": "string", "description": "도로명 주소"}}}
    flat = {"name": "a", "parameters": {"type": "object", "properties": {"to": {"type": "object"}}}}
    nested = {"name": "a", "parameters": {"type": "object", "properties": {"to": street}}}
    in_list = {"name": "a", "parameters": {"type": "object", "properties": {"to": {"type": "array", "items": street}}}}
    inner = 3 + 3 + length("street:string:도로명 주소")
    assert cost_of(with_tools(nested)) == cost_of(with_tools(flat)) + inner
    assert cost_of(with_tools(in_list)) >= cost_of(with_tools(flat)) + inner


def test_texts_beyond_ascii_count_as_they_are_sent() -> None:
    """Escapes such as \\u8377 would have several times as many tokens."""
    tool = with_tools({"name": "find", "description": "荷物を探す", "parameters": {"type": "object", "properties": {}}})
    assert cost_of(tool) == 7 + length("find:荷物を探す") + 12
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"場所":"東京"}'}}
    calls = {"messages": [USER, {**ANSWER, "tool_calls": [call]}]}
    assert cost_of(calls) == length(json.dumps([call], ensure_ascii=False, separators=(",", ":")))


def test_names_and_refusals_count() -> None:
    assert cost_of({"messages": [{**USER, "name": "anna"}, ANSWER]}) == 1 + length("anna")
    assert cost_of({"messages": [USER, {**ANSWER, "refusal": "それはできません"}]}) == length("それはできません")
    part = [{"type": "refusal", "refusal": "それはできません"}]
    refused = {"messages": [USER, {"role": "assistant", "content": part}]}
    assert cost_of(refused) == length("それはできません") - length("配送")


def test_tools_of_a_preference_count_with_each_output() -> None:
    asked = {"messages": [USER]}
    one: dict[str, Any] = {"input": asked, "preferred_output": [ANSWER], "non_preferred_output": [ANSWER]}
    two = {**one, "input": {**asked, "tools": with_tools(PARCEL)["tools"]}}
    assert counter("o200k_base")(two) - counter("o200k_base")(one) == 2 * cost_of(with_tools(PARCEL))


@pytest.mark.parametrize(
    ("size", "count"),
    [((1024, 1024), 4), ((2048, 4096), 6), ((512, 512), 1), ((513, 512), 2), ((1, 1), 1), ((10_000, 1), 4)],
)
def test_tiles_are_those_of_the_vision_guide(size: tuple[int, int], count: int) -> None:
    assert tiles(*size) == count


def test_images_count_by_their_size_and_detail() -> None:
    assert cost_of(with_images(image(png(1024, 1024), detail="low"))) == 85
    assert cost_of(with_images(image("https://example.com/a.png", detail="low"))) == 85
    assert cost_of(with_images(image(png(1024, 1024), detail="high"))) == 765
    assert cost_of(with_images(image(png(1024, 1024)), image(png(600, 300)))) == 765 + 85 + 2 * 170
    assert counter("o200k_base", (2833, 5667))(with_images(image(png(512, 512)))) - cost_of(with_images()) > 8500


@pytest.mark.parametrize(
    ("base", "unclear", "images"),
    [
        (VISION, False, [image(png(1024, 512), detail="high")]),
        (VISION, False, [image("https://example.com/a.png", detail="low")]),
        (VISION, False, []),
        (VISION, True, [image("https://example.com/a.png")]),
        (VISION, True, [image(png(512, 512), detail="original")]),
        ("gpt-4.1-mini-2025-04-14", True, [image(png(512, 512), detail="low")]),
        ("some/model", False, []),
    ],
)
def test_the_estimate_says_at_least_where_an_image_is_not_known(
    tmp_path: Path, base: str, unclear: bool, images: list[dict[str, Any]]
) -> None:
    report, table, notes = estimate(write(tmp_path / "a.jsonl", *[CHAT] * 11, with_images(*images)), base)
    assert report["tokens_at_least"] is unclear
    assert report["tokens_exact"] is (base != "some/model" and not unclear)
    assert (f"at least {report['tokens']:,}" in table) is unclear
    assert ("images whose tokens are not known" in notes) is unclear


def test_the_estimate_with_functions_is_about_right_and_says_so(tmp_path: Path) -> None:
    """A formula that one call of the API confirms is no bill, and calls have none."""
    call = {"id": "c", "type": "function", "function": {"name": "find_parcel", "arguments": "{}"}}
    called = {**with_tools(PARCEL), "messages": [USER, {"role": "assistant", "tool_calls": [call]}]}
    for example in (with_tools(PARCEL), called, {**CHAT, "functions": [PARCEL]}):
        report, _, notes = estimate(write(tmp_path / "a.jsonl", *[CHAT] * 11, example), VISION)
        assert (report["tokens_exact"], report["tokens_at_least"]) == (False, False)
        assert "1 example with declared or called functions" in notes
    report, _, notes = estimate(write(tmp_path / "a.jsonl", *[CHAT] * 12), VISION)
    assert report["tokens_exact"] is True
    assert "functions" not in notes


def test_lines_with_mistakes_make_a_total_at_least(tmp_path: Path) -> None:
    twice_wrong = {"messages": [{**USER, "name": 5, "weight": 1}, ANSWER]}
    report, table, notes = estimate(write(tmp_path / "a.jsonl", *[CHAT] * 11, twice_wrong))
    assert report["examples"] == 11
    assert report["tokens_at_least"] is True
    assert f"at least {report['billed_tokens']:,}" in table
    assert "because of mistakes: 1 line." in notes


@pytest.mark.parametrize(
    "content", ["[\n" + json.dumps(CHAT) + "\n]", json.dumps({"messages": [USER]}) + "\n", "a,b\n", ""]
)
def test_a_file_whose_every_line_is_refused_costs_unknown_and_never_0(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content, encoding="utf-8")
    report, table, notes = estimate(path)
    assert {report[key] for key in ("tokens", "billed_tokens", "train_usd", "seconds")} == {"unknown"}
    assert report["tokens_exact"] is False
    assert "unknown" in table
    assert "because of mistakes" in notes


def test_lines_with_mistakes_count_for_the_epochs_of_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Corrected, 30 examples take 3 epochs: 10 epochs of the 10 good ones may be more than the whole file costs."""
    monkeypatch.chdir(tmp_path)  # no project, whose epochs would be taken
    path = write(tmp_path / "a.jsonl", *[CHAT] * 10)
    path.write_text(path.read_text(encoding="utf-8") + '{"messages": \n' * 20, encoding="utf-8")
    assert estimate(path)[0]["n_epochs"] == 3


def test_blank_lines_have_no_tokens(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *[CHAT] * 12)
    path.write_text(path.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")
    report, _, notes = estimate(path)
    assert (report["tokens_at_least"], report["tokens_exact"]) == (False, True)
    assert "Not counted" not in notes


def test_the_epochs_of_a_file_without_a_counted_example_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text("[" + json.dumps(CHAT) + "]", encoding="utf-8")
    assert estimate(path)[0]["n_epochs"] == "unknown"


def test_a_vocabulary_that_cannot_be_downloaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import tiktoken

    def fail(_: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", fail)
    with pytest.raises(FinetuneError, match="r50k_base is not on this machine"):
        encoder.__wrapped__("r50k_base")


def test_the_counts_of_estimate_and_of_the_checks_are_the_same(tmp_path: Path) -> None:
    examples = [CHAT, with_tools(PARCEL), with_images(image(png(900, 900))), {**CHAT, "functions": [PARCEL]}]
    path = write(tmp_path / "a.jsonl", *examples)
    known = look_up(VISION, "openai")
    checked = check_file(path, encoding=known.encoding, image_prices=known.image_tokens)
    count = counter("o200k_base")
    assert checked.tokens.tolist() == [count(example) for example in examples]
    assert estimate(path)[0]["tokens"] == checked.tokens.sum()
