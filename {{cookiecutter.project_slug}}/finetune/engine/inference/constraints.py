"""Constrain an answer to a grammar: a mask excludes the tokens that no answer of the grammar has next.

The library is llguidance. The mask decides only what is sampled: the model's own log-probabilities stay as they are.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from finetune.engine.api_errors import ApiError
from finetune.engine.inference.answer_grammar import first_line

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer

MAX_CACHED_GRAMMARS = 32  # of a base; several choices and requests often share one


class Vocabulary:
    """The tokens of a base, as grammars need them.

    `special_tokens` are those that no text has. An answer ends with one of `end_token_ids`.
    """

    def __init__(
        self, tokenizer: "LLTokenizer", end_token_ids: Iterable[int], special_tokens: Mapping[str, int]
    ) -> None:
        self.tokenizer, self.end_token_ids, self.special_tokens = tokenizer, sorted(end_token_ids), special_tokens
        self.matchers: OrderedDict[str, LLMatcher] = OrderedDict()

    def matcher(self, grammar: str) -> "LLMatcher":
        """Return a matcher at the beginning of an answer. Raises ApiError for a grammar that is too complex."""
        from llguidance import LLMatcher

        if grammar not in self.matchers:
            matcher = LLMatcher(self.tokenizer, grammar, log_level=0)
            if matcher.is_error():
                raise too_complex(matcher)
            while len(self.matchers) >= MAX_CACHED_GRAMMARS:
                self.matchers.popitem(last=False)
            self.matchers[grammar] = matcher
        self.matchers.move_to_end(grammar)
        return self.matchers[grammar].deep_copy()


def vocabulary_of(tokenizer: Any, end_token_ids: Iterable[int]) -> Vocabulary:
    """Return the vocabulary of a fast tokenizer of Transformers."""
    import llguidance.hf

    ends = sorted(end_token_ids)
    converted = llguidance.hf.from_tokenizer(tokenizer, eos_token=ends[0])
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    specials = {text: index for text, index in added.items() if converted.is_special_token(index)}
    return Vocabulary(converted, ends, specials)


def too_complex(matcher: "LLMatcher") -> ApiError:
    """Return the error of a grammar that the library cannot follow (any further)."""
    if matcher.stop_reason() in ("NoExtension", "NoExtensionBias"):
        message = "No answer of finite length fits the schema."
    else:
        message = f"The schema is too complex for this server: {first_line(matcher.get_error())}."
    return ApiError(400, message, "invalid_json_schema", "response_format")


class Constraint:
    """The constraint of one answer: it is given each token of the answer, and says which may follow."""

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        self.vocabulary, self.matcher = vocabulary, vocabulary.matcher(grammar)

    def copy(self) -> "Constraint":
        """Return the constraint of another answer that begins with the same tokens."""
        found = copy(self)
        found.matcher = self.matcher.deep_copy()
        return found

    def mask(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return logits (vocabulary,) with minus infinity for the tokens that may not follow."""
        import numpy as np
        import torch

        bits = np.frombuffer(self.matcher.compute_bitmask(), dtype=np.uint8)
        if self.matcher.is_error():  # the library would now end the answer, as if it were complete
            raise too_complex(self.matcher)
        allowed = np.zeros(len(logits), dtype=bool)
        known = np.unpackbits(bits, bitorder="little")[: len(logits)].view(bool)
        allowed[: len(known)] = known
        ends = self.vocabulary.end_token_ids
        allowed[ends] = allowed[ends[0]]
        return logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), float("-inf"))

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
