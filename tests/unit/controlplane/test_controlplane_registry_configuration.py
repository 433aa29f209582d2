# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""ConfigMaps and Secrets: keys, sizes, base64, types and immutability."""

import base64
from typing import Any

import pytest

from controlplane.apiserver import registry
from kube import scheme
from kube.scheme import Resource
from kube.status import ApiError

META = {"name": "a", "namespace": "default"}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def check(resource: Resource, fields: dict[str, Any]) -> list[str]:
    obj = {"metadata": dict(META), **fields}
    strategy = registry.strategy_for(resource)
    strategy.default(obj)
    strategy.prepare_create(obj)
    return [str(error) for error in strategy.validate_create(obj)]


def change(resource: Resource, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    strategy = registry.strategy_for(resource)
    found = strategy.validate_update({"metadata": META, **new}, {"metadata": META, **old})
    return [str(error) for error in found]


KEY = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
FROZEN = "Forbidden: field is immutable when `immutable` is set"


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("anything under a good key", {"data": {"a.b_C-1": "x\ny"}}, []),
        ("a key is a file name", {"data": {"a/b": "x"}}, [f'data[a/b]: Invalid value: "a/b": {KEY}']),
        ("in one of both", {"data": {"a": "x"}, "binaryData": {"a": "eA=="}}, ['data[a]: Invalid value: "a": duplicate of key present in binaryData']),
        ("a mebibyte at most", {"data": {"a": "x" * 1048577}}, ["[]: Too long: may not be more than 1048576 bytes"]),
        ("exactly is fine", {"data": {"a": "x" * 1048576}}, []),
        ("binary counts decoded", {"binaryData": {"a": encoded("x" * 1048576)}}, []),
        ("both count together", {"data": {"b": "x"}, "binaryData": {"a": encoded("x" * 1048576)}}, ["[]: Too long: may not be more than 1048576 bytes"]),
    ],
)  # fmt: skip
def test_config_maps(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(scheme.CONFIG_MAPS, fields) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "old", "new", "expected"),
    [
        ("data changes", {"data": {"a": "1"}}, {"data": {"a": "2"}}, []),
        ("it becomes immutable", {"data": {"a": "1"}}, {"data": {"a": "1"}, "immutable": True}, []),
        ("and stays so", {"immutable": True}, {}, [f"immutable: {FROZEN}"]),
        ("with its data", {"data": {"a": "1"}, "immutable": True}, {"data": {"a": "2"}, "immutable": True}, [f"data: {FROZEN}"]),
        ("with its binary data", {"binaryData": {"a": "eA=="}, "immutable": True}, {"immutable": True}, [f"binaryData: {FROZEN}"]),
    ],
)  # fmt: skip
def test_config_maps_change(sentence: str, old: dict[str, Any], new: dict[str, Any], expected: list[str]) -> None:
    assert change(scheme.CONFIG_MAPS, old, new) == expected, sentence


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("opaque", {"data": {"a": encoded("x")}}, []),
        ("a key is a file name", {"data": {"a b": ""}}, [f'data[a b]: Invalid value: "a b": {KEY}']),
        ("TLS has two parts", {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}, ["data[tls.key]: Required value"]),
        ("a login has one", {"type": "kubernetes.io/basic-auth"}, ["data[username]: Required value", "data[password]: Required value"]),
        ("either will do", {"type": "kubernetes.io/basic-auth", "data": {"password": ""}}, []),
        ("ssh has a key", {"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}, ["data[ssh-privatekey]: Required value"]),
        ("a registry login is there", {"type": "kubernetes.io/dockerconfigjson"}, ["data[.dockerconfigjson]: Required value"]),
        ("and is JSON", {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encoded("x")}}, ['data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character \'x\' looking for beginning of value']),
        ("a token names its account", {"type": "kubernetes.io/service-account-token"}, ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]),
        ("any other type is free", {"type": "example.com/mine"}, []),
        ("a mebibyte at most", {"data": {"a": encoded("x" * 1048577)}}, ["data: Too long: may not be more than 1048576 bytes"]),
    ],
)  # fmt: skip
def test_secrets(sentence: str, fields: dict[str, Any], expected: list[str]) -> None:
    assert check(scheme.SECRETS, fields) == expected, sentence


def test_plain_texts_are_encoded_into_the_data_and_win() -> None:
    obj: dict[str, Any] = {
        "metadata": META,
        "data": {"a": encoded("old"), "b": encoded("b")},
        "stringData": {"a": "new"},
    }
    registry.strategy_for(scheme.SECRETS).default(obj)
    assert obj == {"metadata": META, "type": "Opaque", "data": {"a": encoded("new"), "b": encoded("b")}}


@pytest.mark.parametrize(("text", "byte"), [("!", 0), ("eHh4!", 4), ("eHg", 0)])
def test_data_that_is_no_base64_is_a_bad_request(text: str, byte: int) -> None:
    with pytest.raises(ApiError) as caught:
        check(scheme.SECRETS, {"data": {"a": text}})
    assert (caught.value.code, caught.value.message) == (
        400,
        f'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte {byte}',
    )


def test_the_type_of_a_secret_never_changes() -> None:
    assert change(scheme.SECRETS, {"type": "Opaque"}, {"type": "example.com/mine"}) == [
        'type: Invalid value: "example.com/mine": field is immutable'
    ]


def test_secrets_are_selected_by_type() -> None:
    assert registry.strategy_for(scheme.SECRETS).field_values({"type": "Opaque"}) == {"type": "Opaque"}
