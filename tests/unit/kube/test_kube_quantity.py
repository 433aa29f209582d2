"""Quantities: upstream's canonical text, rounding and exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube import quantity
from kube.quantity import BINARY, DECIMAL, EXPONENT, Quantity, QuantityError


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("0Ki", "0"),
        ("0m", "0"),
        ("-0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1", "-1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("0.1", "100m"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("12000", "12k"),
        ("1000k", "1M"),
        ("0.001M", "1k"),
        ("1u", "1u"),
        ("1n", "1n"),
        ("0.0000000001", "1n"),
        ("-0.0000000001", "-1n"),
        ("1024", "1024"),
        ("1Ki", "1Ki"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Gi", "512Mi"),
        ("0.5Mi", "512Ki"),
        ("0.5Ki", "512"),
        ("0.1Ki", "102400m"),
        ("1.1Mi", "1153433600m"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("12e6", "12e6"),
        ("1000e3", "1e6"),
        ("1e-3", "1e-3"),
        ("100e0", "100"),
        ("1.2e5", "120e3"),
        ("1E", "1E"),
        ("100Mi", "100Mi"),
        ("128974848", "128974848"),
        ("129M", "129M"),
        ("-1Ki", "-1Ki"),
        ("-512", "-512"),
        ("2048Pi", "2Ei"),
        ("16Ei", str(2**63 - 1)),
        ("1000E", "1000E"),
    ],
)
def test_the_canonical_form(text: str, canonical: str) -> None:
    assert str(quantity.parse(text)) == canonical


@pytest.mark.parametrize(("number", "canonical"), [(2, "2"), (0.5, "500m"), (1500, "1500"), (1e21, "1e21"), (-3, "-3")])
def test_a_json_number_is_a_quantity_too(number: float, canonical: str) -> None:
    assert str(quantity.parse(number)) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "quantities must match the regular expression"),
        ("1x", "quantities must match the regular expression"),
        ("1.2.3", "quantities must match the regular expression"),
        (" 1", "quantities must match the regular expression"),
        ("1 Gi", "quantities must match the regular expression"),
        ("1-", "unable to parse quantity's suffix"),
        ("\u0661", "quantities must match the regular expression"),
        ("Mi", "unable to parse numeric part of quantity"),
        ("+", "unable to parse numeric part of quantity"),
        (".", "unable to parse numeric part of quantity"),
        ("1mi", "quantities must match|unable to parse quantity's suffix"),
        ("1K", "unable to parse quantity's suffix"),
        ("1Kii", "unable to parse quantity's suffix"),
        ("1e", "unable to parse quantity's suffix"),
        ("1" * 300, "may not be longer than 256"),
    ],
)
def test_text_that_is_no_quantity_is_refused_in_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(QuantityError, match=message):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("text", "milli", "value"),
    [
        ("1", 1000, 1),
        ("100m", 100, 1),
        ("1u", 1, 1),
        ("1500m", 1500, 2),
        ("1Ki", 1024000, 1024),
        ("0", 0, 0),
        ("-1500m", -1500, -1),
    ],
)
def test_milli_and_value_round_up(text: str, milli: int, value: int) -> None:
    found = quantity.parse(text)
    assert (found.milli(), found.value()) == (milli, value)


def test_a_sum_keeps_the_form_of_its_first_part() -> None:
    assert str(quantity.parse("1Gi") + quantity.parse("1024Mi")) == "2Gi"
    assert str(quantity.parse("1") + quantity.parse("500m")) == "1500m"
    assert str(quantity.ZERO + quantity.parse("1Mi")) == "1Mi"


def test_a_difference_may_be_negative() -> None:
    assert str(quantity.parse("1") - quantity.parse("3")) == "-2"
    assert str(-quantity.parse("1Ki")) == "-1Ki"


def test_equal_amounts_in_different_forms_are_equal_and_hash_alike() -> None:
    assert quantity.parse("1") == quantity.parse("1000m")
    assert hash(quantity.parse("1Ki")) == hash(quantity.parse("1024"))
    assert quantity.parse("1") != quantity.parse("1001m")
    assert quantity.parse("1") != 1


def test_order_is_by_amount() -> None:
    texts = ["1Gi", "1G", "500m", "0", "-1", "2"]
    assert [str(item) for item in sorted(map(quantity.parse, texts))] == ["-1", "0", "500m", "2", "1G", "1Gi"]


def test_only_zero_is_false() -> None:
    assert not quantity.parse("0Gi")
    assert quantity.parse("1n")


amounts = st.builds(
    Quantity, st.integers(-(10**27), 10**27), st.sampled_from([DECIMAL, EXPONENT]) | st.just(DECIMAL)
) | st.builds(lambda whole: Quantity(whole * 10**9, BINARY), st.integers(-(2**62), 2**62))


@given(amounts)
def test_printing_and_reading_gives_the_same_amount(amount: Quantity) -> None:
    assert quantity.parse(str(amount)) == amount


@given(amounts)
def test_the_canonical_form_is_stable_once_it_was_read(amount: Quantity) -> None:
    # A binary amount that is no multiple of 1024 is printed without a suffix, and so read back as a decimal one.
    once = str(quantity.parse(str(amount)))
    assert str(quantity.parse(once)) == once


@given(amounts, amounts)
def test_addition_is_exact_and_undone_by_subtraction(left: Quantity, right: Quantity) -> None:
    assert left + right == right + left
    assert left + right - right == left


@given(amounts, amounts)
def test_order_agrees_with_the_difference(left: Quantity, right: Quantity) -> None:
    assert (left < right) == ((left - right).nano < 0)


@given(st.integers(0, 10**15), st.integers(0, 999), st.sampled_from(["m", "", "k", "M", "Ki", "Mi"]))
def test_reading_is_exact(whole: int, fraction: int, suffix: str) -> None:
    factor = {"m": Fraction(1, 1000), "": 1, "k": 1000, "M": 10**6, "Ki": 1024, "Mi": 1024**2}[suffix]
    exact = (whole + Fraction(fraction, 1000)) * factor
    found = quantity.parse(f"{whole}.{fraction:03}{suffix}")
    cap = 2**63 - 1 if suffix.endswith("i") else exact
    assert found.nano == min(exact, cap) * 10**9
    assert found.value() == -(-min(exact, cap) // 1)
    assert found.milli() == -(-min(exact, cap) * 1000 // 1)


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_quantity_error(text: str) -> None:
    try:
        found = quantity.parse(text)
    except QuantityError:
        return
    assert quantity.parse(str(found)) == found
