"""params.yaml is edited: new values, and the comments of the keys that stay."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from finetune.core.errors import FinetuneError
from finetune.core.yaml_edit import edit_yaml

YAML_TEXT = """\
# top
a: # beside a
  # above x
  x: 1 # beside x

  # above y
  y: >-
    two
    lines
  # above z
  z: [1, 2]
  # at the end of a

b: {q: 1, r: "<= 2"} # beside b
# the end
"""


def test_yaml_is_changed_line_by_line() -> None:
    own = YAML(typ="safe").load(YAML_TEXT)
    assert edit_yaml(YAML_TEXT, own) == YAML_TEXT
    own["a"] = {"x": 2, "new": None, "z": ["은", "yes", "1"]}
    own["b"] = {"q": 5}
    assert edit_yaml(YAML_TEXT, own, {"a.new": "about new"}).splitlines() == [
        "# top",
        "a: # beside a",
        "  # above x",
        "  x: 2  # beside x",
        "  # about new",
        "  new: null",
        "",
        "  # above z",
        '  z: [은, "yes", "1"]',
        "  # at the end of a",
        "",
        "b: {q: 5}  # beside b",
        "# the end",
    ]


def test_yaml_that_cannot_be_changed_line_by_line_is_refused() -> None:
    with pytest.raises(FinetuneError, match="cannot be changed"):
        edit_yaml("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n", {"a": 3, "c": {"d": 2}})


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pqrs"), inner, max_size=3),
    max_leaves=6,
)
SECTIONS = st.dictionaries(
    st.sampled_from("abcd"), st.dictionaries(st.sampled_from("klmn"), VALUE, min_size=1), min_size=1
)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(SECTIONS, SECTIONS)
def test_edited_yaml_has_the_new_values_and_the_comments_of_the_keys_that_stay(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    text = "".join(
        f"# about {name}\n{name}:\n"
        + "".join(f"  # about {name}.{key}\n  {key}: {json.dumps(v)}\n" for key, v in part.items())
        for name, part in old.items()
    )
    edited = edit_yaml(text, new)
    assert YAML(typ="safe").load(edited) == new
    for name, part in old.items():
        assert (f"# about {name}\n" in edited) == (name in new)
        for key in part:
            assert (f"# about {name}.{key}\n" in edited) == (key in new.get(name, {}))
