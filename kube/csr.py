"""Certificate signing requests: made by a node, read by the API server, signed by a CA.

Owns PKCS #10 on top of `kube.pki`: what a request asks for, and what of it a signer keeps. Knows no API object's life.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kube import pki

CLIENT: Final = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING: Final = "kubernetes.io/kubelet-serving"
DIGITAL_SIGNATURE: Final = "digital signature"
KEY_ENCIPHERMENT: Final = "key encipherment"
SERVER_AUTH: Final = "server auth"
CLIENT_AUTH: Final = "client auth"
# KeyUsage of certificates.k8s.io/v1: a bit of the key usage extension, or an extended usage.
KEY_USAGES: Final = {
    "signing": "digital_signature",
    DIGITAL_SIGNATURE: "digital_signature",
    "content commitment": "content_commitment",
    KEY_ENCIPHERMENT: "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
EXTENDED_USAGES: Final = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    SERVER_AUTH: ExtendedKeyUsageOID.SERVER_AUTH,
    CLIENT_AUTH: ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": x509.ObjectIdentifier("2.16.840.1.113730.4.1"),
}
_HEADER = b"-----BEGIN CERTIFICATE REQUEST-----"
_CA_KEYS = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class RequestError(Exception):
    """A signing request that cannot be read, or whose signature does not hold."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ips: tuple[str, ...]
    others: tuple[str, ...]
    """Emails and URIs, which no node has."""


def new_key() -> bytes:
    """A fresh private key, PEM: ECDSA P-256."""
    return pki.key_pem(ec.generate_private_key(ec.SECP256R1()))


def make(
    key_pem: bytes,
    *,
    common_name: str,
    organizations: Iterable[str] = (),
    dns_names: Iterable[str] = (),
    ips: Iterable[str] = (),
) -> bytes:
    """A request, PEM, signed with the private key it is for."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dict.fromkeys(dns_names)]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys(ips)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read(pem: bytes) -> Asked:
    """What a PEM request asks for; RequestError when it is none or is not signed by its own key."""
    request = _load(pem)
    subject = request.subject
    common = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    names = _alternative_names(request)
    others = [*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.UniformResourceIdentifier)]
    return Asked(
        common[0] if common else "",
        tuple(groups),
        tuple(names.get_values_for_type(x509.DNSName)),
        tuple(str(each) for each in names.get_values_for_type(x509.IPAddress)),
        tuple(others),
    )


def sign(ca: pki.Authority, pem: bytes, *, usages: Iterable[str], seconds: float, now: datetime | None = None) -> bytes:
    """A certificate, PEM: the request's key, subject and names, for `usages`, ending with the CA at the latest."""
    request, usages, now = _load(pem), list(usages), now or datetime.now(UTC)
    key = request.public_key()
    assert isinstance(key, _CA_KEYS)
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(ca.cert.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - pki.BACKDATE)
        .not_valid_after(min(now + timedelta(seconds=seconds), ca.cert.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(pki.authority_id(ca), critical=False)
    )
    bits = {KEY_USAGES[each] for each in usages if each in KEY_USAGES}
    if bits:
        every = dict.fromkeys(KEY_USAGES.values(), False) | dict.fromkeys(bits, True)
        builder = builder.add_extension(x509.KeyUsage(**every), critical=True)
    extended = dict.fromkeys(EXTENDED_USAGES[each] for each in usages if each in EXTENDED_USAGES)
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(extended)), critical=False)
    if names := list(_alternative_names(request)):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def node_problem(asked: Asked, usages: Iterable[str], *, serving: bool) -> str | None:
    """Why this is no request of a kubelet for its client or serving certificate; None when it is one.

    The rules are those of upstream's `pkg/apis/certificates/helpers.go`; a key that is not RSA needs no encipherment.
    """
    if asked.organizations != (pki.NODE_GROUP,):
        return f"subject organization is not {pki.NODE_GROUP}"
    if serving and not asked.dns_names and not asked.ips:
        return "DNS or IP subjectAltName is required"
    for what, names in (("DNS", asked.dns_names), ("IP", asked.ips)):
        if names and not serving:
            return f"{what} subjectAltNames are not allowed"
    if asked.others:
        return "Email and URI subjectAltNames are not allowed"
    auth = SERVER_AUTH if serving else CLIENT_AUTH
    if set(usages) - {KEY_ENCIPHERMENT} != {DIGITAL_SIGNATURE, auth}:
        return f"usages did not match [{DIGITAL_SIGNATURE} {KEY_ENCIPHERMENT} {auth}]"
    if not asked.common_name.startswith(pki.NODE_PREFIX):
        return f"subject common name does not begin with {pki.NODE_PREFIX}"
    return None


def _load(pem: bytes) -> x509.CertificateSigningRequest:
    if not pem.lstrip().startswith(_HEADER):
        raise RequestError("PEM block type must be CERTIFICATE REQUEST")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = request.public_key()
        good = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as e:
        raise RequestError(f"not a certificate request: {e}") from e
    if isinstance(key, dsa.DSAPublicKey) or not isinstance(key, _CA_KEYS):
        raise RequestError("keys of this kind are not supported: want ECDSA, RSA or Ed25519")
    if not good:
        raise RequestError("its signature was not made by the key it holds")
    return request


def _alternative_names(request: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName:
    try:
        return request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])
    except ValueError as e:
        raise RequestError(f"its extensions cannot be read: {e}") from e
