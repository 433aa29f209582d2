"""Label selectors: grammar, object form, matching, printing, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import labels, types
from kube.labels import SelectorError

WEB = {"app": "web", "tier": "front", "zone": "a", "weight": "10"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("missing=x", False),
        ("app", True),
        ("!app", False),
        ("! missing", True),
        ("missing", False),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,api)", True),
        ("app notin (web)", False),
        ("missing notin (a)", True),
        ("weight>9", True),
        ("weight > 10", False),
        ("weight<11", True),
        ("zone>1", False),
        ("missing>1", False),
        ("app=web,tier=front", True),
        ("app=web,tier=back", False),
        ("app in (web,db),zone,!gone,tier!=back", True),
        ("empty=", False),
        ("missing in (,a)", False),
    ],
)
def test_a_selector_matches_or_not(text: str, expected: bool) -> None:
    assert labels.parse(text).matches(WEB) is expected


def test_an_empty_value_matches_an_empty_label_only() -> None:
    assert labels.parse("k=").matches({"k": ""})
    assert labels.parse("k in (a,)").matches({"k": ""})
    assert not labels.parse("k=").matches({})


def test_keys_may_have_a_prefix() -> None:
    text = "node-role.kubernetes.io/control-plane,app.kubernetes.io/name=x_1.y-z"
    both = {"node-role.kubernetes.io/control-plane": "", "app.kubernetes.io/name": "x_1.y-z"}
    assert labels.parse(text).matches(both)


def test_in_and_notin_may_be_keys() -> None:
    assert labels.parse("in=notin").matches({"in": "notin"})


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("b=1,a=2", "a=2,b=1"),
        ("a==1", "a=1"),
        ("a in (y,x,y)", "a in (x,y)"),
        ("a in (x)", "a=x"),
        ("a notin (x)", "a!=x"),
        ("a notin (y,x)", "a notin (x,y)"),
        ("!a , b", "!a,b"),
        ("a>1,b<2", "a>1,b<2"),
        ("", ""),
    ],
)
def test_the_printed_form_is_sorted(text: str, printed: str) -> None:
    assert str(labels.parse(text)) == printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=x", "^found '=', expected: !, identifier, or 'end of string'$"),
        ("(a)", "^found '\\(', expected: !, identifier, or 'end of string'$"),
        ("a,", "^found '', expected: identifier after ','$"),
        ("a,,b", "^found ',', expected: identifier after ','$"),
        ("a b", "^unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt$"),
        ("a=b c", "^found 'c', expected: ',' or 'end of string'$"),
        ("!a=b", "^found '=', expected: ',' or 'end of string'$"),
        ("a in x", "^unable to parse requirement: found 'x' expected: '\\('$"),
        ("a notin", "^unable to parse requirement: found '' expected: '\\('$"),
        ("a in (x", "^unable to parse requirement: found '', expected: ',' or '\\)'$"),
        ("a in (x y)", "^unable to parse requirement: found 'y', expected: ',' or '\\)'$"),
        ("a>x", '^unable to parse requirement: values\\[0\\]: Invalid value: "x"'),
        ("a=-x", 'values\\[0\\]\\[a\\]: Invalid value: "-x"'),
        ("-a=x", 'key: Invalid value: "-a"'),
        ("a/b/c=x", 'key: Invalid value: "a/b/c"'),
        ("A.B/c=x", 'key: Invalid value: "A.B/c"'),
        ("a=" + "x" * 64, "Invalid value"),
        ("x" * 64, "Invalid value"),
        ("!", "^unable to parse requirement: found '', expected: identifier$"),
    ],
)
def test_a_broken_selector_is_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(SelectorError, match=message):
        labels.parse(text)


def test_no_object_selects_nothing_and_an_empty_object_everything() -> None:
    assert not labels.from_object(None).matches({})
    assert not labels.from_object(None).empty
    assert labels.from_object({}).matches({})
    assert labels.from_object({}).empty
    assert labels.EVERYTHING.matches(WEB) and not labels.NOTHING.matches(WEB)


def test_an_object_selector_joins_labels_and_expressions() -> None:
    selector = labels.from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front", "back"]},
                {"key": "zone", "operator": "Exists"},
                {"key": "gone", "operator": "DoesNotExist"},
                {"key": "tier", "operator": "NotIn", "values": ["middle"]},
            ],
        }
    )
    assert selector.matches(WEB)
    assert str(selector) == "app=web,!gone,tier in (back,front),tier!=middle,zone"


def test_a_decoded_struct_selects_like_the_dict_it_came_from() -> None:
    raw = b'{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"tier","operator":"NotIn","values":["back"]}]}'
    selector = labels.from_object(types.decode(raw, types.LabelSelector))
    assert selector.matches(WEB)
    assert not selector.matches(WEB | {"tier": "back"})


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "a", "operator": "Equals", "values": ["b"]}, '"Equals" is not a valid label selector operator'),
        ({"key": "a", "operator": "In"}, "values set can't be empty"),
        ({"key": "a", "operator": "Exists", "values": ["x"]}, "must be empty for exists"),
        ({"operator": "Exists"}, 'key: Invalid value: ""'),
    ],
)
def test_a_broken_object_selector_is_refused(expression: dict[str, object], message: str) -> None:
    with pytest.raises(SelectorError, match=message):
        labels.from_object({"matchExpressions": [expression]})


def test_a_map_of_labels_selects_all_its_pairs() -> None:
    assert labels.from_map({"app": "web", "tier": "front"}).matches(WEB)
    assert not labels.from_map({"app": "web", "tier": "back"}).matches(WEB)
    assert labels.from_map(None).empty


words = st.from_regex(r"[a-z0-9]([-a-z0-9_.]{0,5}[a-z0-9])?", fullmatch=True)
terms = st.one_of(
    st.builds("{}={}".format, words, words),
    st.builds("{}!={}".format, words, words),
    st.builds("!{}".format, words),
    words,
    st.builds(lambda key, values: f"{key} in ({','.join(values)})", words, st.lists(words, min_size=1, max_size=3)),
)


@given(st.lists(terms, max_size=4).map(",".join))
def test_the_printed_form_reads_back_as_the_same_selector(text: str) -> None:
    selector = labels.parse(text)
    assert labels.parse(str(selector)) == selector


@given(st.text(max_size=20))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    try:
        selector = labels.parse(text)
    except SelectorError:
        return
    assert selector.matches({}) in (True, False)
