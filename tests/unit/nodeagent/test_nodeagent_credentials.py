"""Registry credentials: what docker configurations say, and which images they fit."""

import base64
import json
from typing import Any

import pytest

from nodeagent.images import credentials


def config(**auths: dict[str, Any]) -> bytes:
    return json.dumps({"auths": {name.replace("__", "."): entry for name, entry in auths.items()}}).encode()


def test_a_login_is_read_from_either_form() -> None:
    coded = base64.b64encode(b"me:pa:ss").decode()
    (one,) = credentials.of_secret({".dockerconfigjson": config(example__com={"auth": coded})})
    assert (one.pattern, one.username, one.password) == ("example.com", "me", "pa:ss")
    legacy = json.dumps({"https://example.com/v1/": {"username": "me", "password": "x"}}).encode()
    (other,) = credentials.of_secret({".dockercfg": legacy})
    assert (other.pattern, other.username, other.password) == ("example.com", "me", "x")


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(
        credentials.Credential(pattern="a", username="b", password="secret", identity_token="secret")
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "neither"),
        ({".dockerconfigjson": b"{"}, "not JSON"),
        ({".dockerconfigjson": b"[]"}, "not a mapping"),
        ({".dockerconfigjson": b'{"auths": []}'}, "not a mapping"),
        ({".dockerconfigjson": b'{"auths": {"a": {"auth": "%"}}}'}, "not base64"),
    ],
)
def test_a_broken_secret_says_what_is_wrong(data: dict[str, bytes], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        credentials.of_secret(data)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", ("index.docker.io", "busybox")),
        ("docker.io/library/busybox:1", ("index.docker.io", "library/busybox")),
        ("localhost/a:1", ("localhost", "a")),
        ("example.com:5000/a/b:1@sha256:" + "0" * 64, ("example.com:5000", "a/b")),
    ],
)
def test_an_image_name_is_split(image: str, expected: tuple[str, str]) -> None:
    assert credentials.split(image) == expected


@pytest.mark.parametrize(
    ("pattern", "image", "fits"),
    [
        ("example.com", "example.com/a", True),
        ("example.com/a", "example.com/a/b", True),
        ("example.com/a", "example.com/ab", False),
        ("*.example.com", "r.example.com/a", True),
        ("*.example.com", "a.r.example.com/a", False),
        ("*.example.com", "example.com/a", False),
        ("example.com:5000", "example.com/a", False),
        ("example.com:5000", "example.com:5000/a", True),
        ("https://index.docker.io/v1/", "busybox", True),
        ("docker.io", "library/busybox:1", True),
        ("example.com", "busybox", False),
    ],
)
def test_a_pattern_fits_or_not(pattern: str, image: str, fits: bool) -> None:
    known = [credentials.Credential(pattern=credentials.normal(pattern))]
    assert bool(credentials.fitting(image, known)) is fits
