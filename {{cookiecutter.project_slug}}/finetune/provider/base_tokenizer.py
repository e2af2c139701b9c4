"""The tokenizer of a base model: tiktoken's where the catalogue names it, else the server's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.pricing.catalogue import look_up
from finetune.provider.connect import connect

Encode = Callable[[str], list[int]]


@contextmanager
def tokenizer(params: Params, of_encoding: Callable[[str], Encode]) -> Iterator[Encode]:
    """A function from a text to its token IDs, for the block; `of_encoding` gives that of a tiktoken vocabulary.

    Other servers are asked by vLLM's `POST /tokenize`. Raises FinetuneError where they do not know it.
    """
    import openai

    base = look_up(params.train.base, params.provider.name)
    if base.tokens_exact:
        yield of_encoding(base.encoding)
        return
    with connect(params.provider) as connection:
        address = str(connection.client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"

        def encode(text: str) -> list[int]:
            body = {"model": base.name, "prompt": text, "add_special_tokens": False}
            try:
                answer = connection.client.post(address, cast_to=dict[str, list[int]], body=body)
            except openai.NotFoundError as error:
                raise FinetuneError(
                    f"The tokenizer of {base.name!r} is not known here, and {address} does not answer.",
                    "Name its tiktoken encoding in models.toml, or do without what needs it: data.codes.",
                ) from error
            return list(answer["tokens"])

        yield encode
