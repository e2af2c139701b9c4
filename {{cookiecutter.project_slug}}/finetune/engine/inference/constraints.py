"""Constrain an answer to a grammar: a mask excludes the tokens that no answer of the grammar has next.

The library is llguidance. The mask decides only what is sampled: the model's own log-probabilities stay as they are.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.grammar_schema import first_line

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer

MAX_LEXER_STATES = 50_000  # of one answer; at most 2 kB each, as the library says


class Vocabulary(NamedTuple):
    """The tokens of a base, as grammars need them.

    An answer ends with one of `end_token_ids`. No text has the `special_tokens`.
    """

    tokenizer: "LLTokenizer"
    end_token_ids: list[int]
    special_tokens: dict[str, int]


def vocabulary_of(tokenizer: Any, end_token_ids: Iterable[int]) -> Vocabulary:
    """Return the vocabulary of a fast tokenizer of Transformers. Takes about a second: keep it with the base."""
    import llguidance.hf

    ends = sorted(end_token_ids)
    converted = llguidance.hf.from_tokenizer(tokenizer, eos_token=ends[0])
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    return Vocabulary(converted, ends, {text: i for text, i in added.items() if converted.is_special_token(i)})


class Constraint:
    """The constraint of one answer: it is given each token of the answer, and says which may follow.

    It shares nothing with the constraints of other answers, so that they cannot change it. To make one takes
    milliseconds, and for a large schema up to a second, in which other threads go on.
    """

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        """Raises ApiError for a grammar that is too complex."""
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)
        self.vocabulary = vocabulary
        self.matcher = LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=limits)
        if self.matcher.is_error():
            raise too_complex(self.matcher)

    def mask(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return logits (vocabulary,) with minus infinity for the tokens that may not follow."""
        import numpy as np
        import torch

        bits = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        if self.matcher.is_error():  # the library would now end the answer, as if it were complete
            raise too_complex(self.matcher)
        known = np.unpackbits(bits, count=self.vocabulary.tokenizer.vocab_size, bitorder="little")[: len(logits)]
        excluded = np.ones(len(logits), dtype=bool)  # a model may have more rows than its tokenizer has tokens
        excluded[: len(known)] = known == 0
        ends = self.vocabulary.end_token_ids
        excluded[ends] = excluded[ends[0]]
        return logits.masked_fill(torch.from_numpy(excluded).to(logits.device), float("-inf"))

    def accept(self, token_id: int) -> None:
        """Add the next token of the answer, one that `mask` allows."""
        if token_id in self.vocabulary.end_token_ids:
            return
        if not self.matcher.consume_token(token_id):
            raise ApiError(500, f"Token {token_id} does not fit the grammar of the answer.", "server_error")

    @property
    def is_complete(self) -> bool:
        """Whether only an end token may follow."""
        return bool(self.matcher.is_stopped() and not self.matcher.is_error())


def too_complex(matcher: "LLMatcher") -> ApiError:
    """Return the error of a grammar that the library cannot follow (any further)."""
    if matcher.stop_reason() in ("NoExtension", "NoExtensionBias"):
        message = "No answer of finite length fits the schema."
    else:
        message = f"The schema is too complex for this server: {first_line(matcher.get_error())}."
    return ApiError(400, message, "invalid_json_schema", "response_format")
