"""The tokenizer of a base model: tiktoken's where the catalogue names its encoding, else the server's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetune.core.errors import FinetuneError
from finetune.core.params import Params
from finetune.pricing.catalogue import look_up
from finetune.provider.connect import connect

Encode = Callable[[str], list[int]]  # a text to its token IDs


@contextmanager
def tokenizer(params: Params, encoder: Callable[[str], Encode]) -> Iterator[Encode]:
    """Give the base's encode function for the block; `encoder` returns that of a tiktoken encoding.

    Where the encoding is not known, the server is asked, by vLLM's `POST /tokenize`. Raises FinetuneError where it has
    no such route.
    """
    import openai

    base = look_up(params.train.base, params.provider.name)
    if base.tokens_exact:
        yield encoder(base.encoding)
        return
    with connect(params.provider) as connection:
        address = str(connection.client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"

        def encode(text: str) -> list[int]:
            body = {"model": base.name, "prompt": text, "add_special_tokens": False}
            try:
                answer = connection.client.post(address, cast_to=dict[str, list[int]], body=body)
            except openai.NotFoundError as error:
                raise FinetuneError(
                    f"The tokenizer of {base.name!r} is unknown, and {address} does not exist.",
                    "Set its tiktoken encoding in models.toml, or turn off data.codes, which needs the tokenizer.",
                ) from error
            return list(answer["tokens"])

        yield encode
