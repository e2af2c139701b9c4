"""Instructor: objects from answers, in each of its modes that OpenAI's servers have."""

import instructor
import openai
import pytest
from conftest import MODEL, Server
from pydantic import BaseModel, Field

MODES = ["MD_JSON", "JSON", "JSON_SCHEMA", "TOOLS", "TOOLS_STRICT"]
# The small model answers in the form that it has seen, also to what MD_JSON adds to the last question.
ADDED = "\n\nReturn the correct JSON response within a ```json codeblock. not the JSON_SCHEMA"
MESSAGES = [
    {"role": "user", "content": f"Lyon is in France.{ADDED}"},
    {"role": "assistant", "content": '```json\n{"city": "Lyon", "country": "France"}\n```'},
    {"role": "user", "content": f"Rome is in Italy.{ADDED}"},
    {"role": "assistant", "content": '```json\n{"city": "Rome", "country": "Italy"}\n```'},
    {"role": "user", "content": "Berlin is in Germany."},
]


class Place(BaseModel):
    """A city and its country."""

    city: str = Field(max_length=20)
    country: str = Field(max_length=20)


def client(server: Server, mode: str) -> instructor.Instructor:
    plain = openai.OpenAI(base_url=server.url, api_key=server.key, max_retries=0)
    return instructor.from_openai(plain, mode=instructor.Mode[mode])


@pytest.mark.parametrize("mode", MODES)
def test_an_object(server: Server, mode: str) -> None:
    place, answer = client(server, mode).chat.completions.create_with_completion(
        model=MODEL, messages=MESSAGES, response_model=Place, max_retries=0, temperature=0, max_tokens=100
    )
    assert isinstance(place, Place)
    assert place.city == "Berlin"
    assert answer.usage.completion_tokens > 5


def test_parts_of_an_object_that_is_on_its_way(server: Server) -> None:
    found = list(
        client(server, "JSON_SCHEMA").chat.completions.create_partial(
            model=MODEL, messages=MESSAGES, response_model=Place, max_retries=0, temperature=0, max_tokens=100
        )
    )
    assert len(found) > 2
    assert found[-1].city == "Berlin"
