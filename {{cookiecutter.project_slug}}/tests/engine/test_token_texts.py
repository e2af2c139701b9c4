"""Test the texts of tokens, which are kept for the next answer."""

import gc
import weakref

from tiny import make_tokenizer

from finetune.engine.inference.token_texts import token_text


def test_texts_are_kept_as_long_as_their_tokenizer() -> None:
    tokenizer = make_tokenizer()
    assert token_text(tokenizer, 5, is_first=True) == token_text(tokenizer, 5, is_first=True) == tokenizer.decode([5])
    alive = weakref.ref(tokenizer)
    del tokenizer
    gc.collect()
    assert alive() is None
