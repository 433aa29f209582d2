"""Field selectors: grammar, escapes, matching, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import fields
from kube.fields import FieldSelectorError, Requirement

POD = {"metadata.name": "web-1", "spec.nodeName": "n1", "status.phase": "Running"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("metadata.name=web-1", True),
        ("metadata.name==web-1", True),
        ("metadata.name!=web-1", False),
        ("spec.nodeName=n1,status.phase!=Failed", True),
        ("spec.nodeName=n2,status.phase!=Failed", False),
        ("spec.nodeName=", False),
        ("spec.other=", True),
        ("spec.other!=", False),
        ("metadata.name=web-1,", True),
    ],
)
def test_a_field_selector_matches_or_not(text: str, expected: bool) -> None:
    assert fields.parse(text).matches(POD) is expected


def test_requirements_keep_their_order() -> None:
    selector = fields.parse("b=1,a!=2")
    assert selector.requirements == (Requirement("b", True, "1"), Requirement("a", False, "2"))
    assert str(selector) == "b=1,a!=2"
    assert not selector.empty
    assert fields.EVERYTHING.empty


def test_exact_gives_the_one_value_a_field_must_have() -> None:
    selector = fields.parse("metadata.name=x,spec.nodeName!=y")
    assert selector.exact("metadata.name") == "x"
    assert selector.exact("spec.nodeName") is None


def test_commas_equal_signs_and_backslashes_are_escaped() -> None:
    selector = fields.parse(r"a=x\,y\=z\\,b=1")
    assert selector.requirements == (Requirement("a", True, r"x,y=z" + "\\"), Requirement("b", True, "1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metadata.name", "can't understand 'metadata.name'"),
        ("a=1,b", "can't understand 'b'"),
        ("a=x=y", "unescaped '='"),
        (r"a=\n", "invalid escape sequence"),
    ],
)
def test_a_broken_field_selector_is_refused_and_quoted(text: str, message: str) -> None:
    with pytest.raises(FieldSelectorError, match=message):
        fields.parse(text)


@given(st.text(max_size=12))
def test_any_value_survives_escaping(value: str) -> None:
    found = fields.parse(f"a={fields.escape(value)},b=1")
    assert found.requirements == (Requirement("a", True, value), Requirement("b", True, "1"))
