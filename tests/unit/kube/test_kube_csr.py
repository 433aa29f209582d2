"""Signing requests and bootstrap tokens: made, read, refused, and the certificates that come of them."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from kube import bootstraptoken, csr, pki

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SERVING = [csr.DIGITAL_SIGNATURE, csr.SERVER_AUTH]
CLIENT = [csr.DIGITAL_SIGNATURE, csr.CLIENT_AUTH]


def request(name: str = "system:node:n1", *organizations: str, **names: list[str]) -> bytes:
    return csr.make(csr.new_key(), common_name=name, organizations=organizations or ["system:nodes"], **names)


def test_a_request_says_what_was_put_into_it() -> None:
    asked = csr.read(request(dns_names=["n1"], ips=["192.0.2.7"]))
    assert asked == csr.Asked("system:node:n1", ("system:nodes",), ("n1",), ("192.0.2.7",), ())


def test_a_request_that_was_tampered_with_is_refused() -> None:
    pem = request()
    body = bytearray(base64.b64decode(b"".join(pem.splitlines()[1:-1])))
    body[body.index(b"n1")] ^= 1
    forged = (
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(body) + b"-----END CERTIFICATE REQUEST-----\n"
    )
    with pytest.raises(csr.RequestError):
        csr.read(forged)
    with pytest.raises(csr.RequestError, match="PEM block type"):
        csr.read(b"nonsense")


@pytest.mark.parametrize(
    ("pem", "usages", "serving", "word"),
    [
        (request(), CLIENT, False, None),
        (request(), [*CLIENT, csr.KEY_ENCIPHERMENT], False, None),
        (request(ips=["192.0.2.7"]), SERVING, True, None),
        (request(ips=["192.0.2.7"]), CLIENT, False, "IP"),
        (request(), SERVING, True, "required"),
        (request("system:node:n1", "system:masters"), CLIENT, False, "organization"),
        (request("system:node:n1", "system:nodes", "system:masters"), CLIENT, False, "organization"),
        (request("admin"), CLIENT, False, "common name"),
        (request(), [*CLIENT, csr.SERVER_AUTH], False, "usages"),
    ],
)
def test_only_a_nodes_own_kind_of_request_is_a_nodes(
    pem: bytes, usages: list[str], serving: bool, word: str | None
) -> None:
    found = csr.node_problem(csr.read(pem), usages, serving=serving)
    assert found is None if word is None else word in str(found)


def test_a_signed_certificate_keeps_key_subject_and_names_and_gets_only_the_usages_asked_for(tmp_path: Path) -> None:
    ca = pki.ensure_ca(tmp_path)
    now = datetime.now(UTC)
    pem = csr.sign(ca, request(dns_names=["n1"], ips=["192.0.2.7"]), usages=SERVING, seconds=3600, now=now)
    cert = x509.load_pem_x509_certificate(pem)
    cert.verify_directly_issued_by(ca.cert)
    assert cert.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    assert cert.not_valid_after_utc - now < timedelta(seconds=3601)
    assert now - cert.not_valid_before_utc >= timedelta(minutes=4)
    extended = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [csr.EXTENDED_USAGES[csr.SERVER_AUTH]]
    assert not cert.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
    assert not cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    ca = pki.ensure_ca(tmp_path)
    cert = x509.load_pem_x509_certificate(csr.sign(ca, request(), usages=CLIENT, seconds=1e10))
    assert cert.not_valid_after_utc == ca.cert.not_valid_after_utc


def test_a_pin_tells_its_ca_from_another(tmp_path: Path) -> None:
    ca, other = pki.ensure_ca(tmp_path), pki.ensure_ca(tmp_path, "other")
    assert pki.pinned(ca.cert_pem, pki.pin(ca.cert))
    assert not pki.pinned(other.cert_pem, pki.pin(ca.cert))
    assert not pki.pinned(ca.cert_pem + other.cert_pem, pki.pin(ca.cert))
    assert not pki.pinned(b"", pki.pin(ca.cert))


def test_a_join_string_comes_back_as_it_was_and_never_shows_its_secret_in_logs(tmp_path: Path) -> None:
    join = bootstraptoken.JoinString(bootstraptoken.new(), pki.pin(pki.ensure_ca(tmp_path).cert))
    assert bootstraptoken.parse_join(str(join)) == join
    assert join.token.secret not in repr(join)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("abcdef.0123456789abcdef", "does not name the cluster's CA"),
        ("abcdef.0123456789abcdef@sha256:12", "no CA hash"),
        ("ABCDEF.0123456789abcdef@sha256:" + "0" * 64, "form"),
        ("", "does not name"),
    ],
)
def test_a_text_that_is_no_join_string_is_told_what_is_wrong_with_it(text: str, word: str) -> None:
    with pytest.raises(bootstraptoken.TokenError, match=word):
        bootstraptoken.parse_join(text)


def test_a_token_survives_its_secret() -> None:
    token = bootstraptoken.new()
    kept = bootstraptoken.of_secret(bootstraptoken.secret(token, expires=NOW, description="for rack 2"))
    assert kept is not None
    assert (kept.token, kept.expires, kept.description) == (token, NOW, "for rack 2")
    assert kept.authenticates
    assert kept.expired(NOW)
    assert not kept.expired(NOW - timedelta(seconds=1))


@pytest.mark.parametrize(
    "change",
    [
        {"type": "Opaque"},
        {"metadata": {"name": "bootstrap-token-zzzzzz"}},
        {"data": {}},
        {"data": {"token-id": "!"}},
    ],
)
def test_a_secret_that_is_not_wholly_a_token_makes_nothing_good(change: dict[str, object]) -> None:
    assert bootstraptoken.of_secret({**bootstraptoken.secret(bootstraptoken.new(), expires=None), **change}) is None


def test_a_token_cannot_hand_out_groups_outside_its_own_corner() -> None:
    made = bootstraptoken.secret(bootstraptoken.new(), expires=None, groups=["system:masters"])
    assert bootstraptoken.of_secret(made) is None
