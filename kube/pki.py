"""Certificates and keys of a cluster: who signs, who is signed, under which names.

Owns the files of the PKI folder and the subjects of kubeadm's PKI. Knows neither servers nor connections; imports the
certificate library, so daemons that only hold certificates do not import this module.
"""

import hashlib
import ipaddress
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kube.runtime import files

CA_DAYS = 3650
LEAF_DAYS = 365
BACKDATE = timedelta(minutes=5)
RENEW_BEFORE = timedelta(days=90)
CLIENT = "client auth"
SERVER = "server auth"
_USAGES = {CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH, SERVER: ExtendedKeyUsageOID.SERVER_AUTH}
NODE_GROUP, NODE_PREFIX = "system:nodes", "system:node:"
PIN_PREFIX = "sha256:"
_PRIVATE, _PUBLIC = 0o600, 0o644


class PkiError(Exception):
    """The PKI folder cannot be used; the text names the file and the reason."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that can sign."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def cert_pem(self) -> bytes:
        """What goes into kubeconfigs and client CA files."""
        return self.cert.public_bytes(serialization.Encoding.PEM)


def ensure_ca(folder: Path, name: str = "ca", *, cn: str = "kubernetes") -> Authority:
    """The CA in `<name>.crt` and `<name>.key`, made when missing. PkiError when only half of it is there."""
    _private_folder(folder)
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    if cert_file.exists() != key_file.exists():
        missing = key_file if cert_file.exists() else cert_file
        raise PkiError(f"{missing}: missing, although its other half is there; restore it or remove both")
    if not cert_file.exists():
        made = _new_ca(cn)
        files.replace(key_file, key_pem(made.key), _PRIVATE)
        files.replace(cert_file, made.cert_pem, _PUBLIC)
    return load_ca(folder, name)


def load_ca(folder: Path, name: str = "ca") -> Authority:
    """A CA from its files; PkiError names the file that cannot be used."""
    cert = load_cert(folder / f"{name}.crt")
    try:
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{folder / name}.key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiError(f"{folder / name}.key: want an elliptic curve key")
    if _public(key.public_key()) != _public(cert.public_key()):
        raise PkiError(f"{folder / name}.key: does not belong to {name}.crt")
    return Authority(cert, key)


def load_cert(file: Path) -> x509.Certificate:
    """The first certificate of a PEM file."""
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise PkiError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise PkiError(f"{file}: not a certificate: {error}") from error


def issue(
    ca: Authority,
    *,
    cn: str,
    organizations: Iterable[str] = (),
    dns_names: Iterable[str] = (),
    ips: Iterable[str] = (),
    usages: Iterable[str] = (CLIENT,),
    days: float = LEAF_DAYS,
) -> KeyPair:
    """A fresh key and a certificate for it; `usages` are CLIENT and SERVER, `ips` textual addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    subject = x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    builder = _builder(subject, ca.cert.subject, key.public_key(), days=days, not_after=ca.cert.not_valid_after_utc)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[each] for each in usages]), critical=False)
    builder = builder.add_extension(authority_id(ca), critical=False)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in dict.fromkeys(dns_names)]
    names += [x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys(ips)]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    cert = builder.sign(ca.key, hashes.SHA256())
    return KeyPair(cert.public_bytes(serialization.Encoding.PEM), key_pem(key))


def node_client(ca: Authority, *, name: str, days: float = LEAF_DAYS) -> KeyPair:
    """What the kubelet shows the API server."""
    return issue(ca, cn=NODE_PREFIX + name, organizations=[NODE_GROUP], days=days)


def node_serving(ca: Authority, *, name: str, ips: Iterable[str], days: float = LEAF_DAYS) -> KeyPair:
    """What the kubelet shows its callers."""
    return issue(
        ca,
        cn=NODE_PREFIX + name,
        organizations=[NODE_GROUP],
        dns_names=[name],
        ips=ips,
        usages=[SERVER],
        days=days,
    )


def pin(cert: x509.Certificate) -> str:
    """A CA as join tokens name it, kubeadm's too: `sha256:`, the hash of its public key (DER SubjectPublicKeyInfo)."""
    der = cert.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PIN_PREFIX + hashlib.sha256(der).hexdigest()


def pinned(bundle: bytes, wanted: str) -> bool:
    """Whether a PEM bundle holds a CA of this pin, and no other certificate."""
    try:
        return all(pin(cert) == wanted for cert in x509.load_pem_x509_certificates(bundle))
    except ValueError:
        return False


def ensure_cluster(
    folder: Path,
    *,
    service_ip: str,
    zone: str,
    advertise: str,
    extra_sans: Iterable[str] = (),
) -> Authority:
    """Every file a control plane needs, made when missing, renewed when under 90 days or names are missing.

    ca, front-proxy-ca, apiserver, apiserver-kubelet-client, front-proxy-client, admin (.crt and .key), sa.key, sa.pub.
    """
    ca = ensure_ca(folder)
    front_proxy = ensure_ca(folder, "front-proxy-ca", cn="front-proxy-ca")
    dns_names, ips = apiserver_names(service_ip=service_ip, zone=zone, advertise=advertise, extra_sans=extra_sans)
    ensure_leaf(folder, "apiserver", ca, cn="kube-apiserver", dns_names=dns_names, ips=ips, usages=[SERVER])
    ensure_leaf(
        folder,
        "apiserver-kubelet-client",
        ca,
        cn="kube-apiserver-kubelet-client",
        organizations=["system:masters"],
    )
    ensure_leaf(folder, "front-proxy-client", front_proxy, cn="front-proxy-client")
    ensure_leaf(folder, "admin", ca, cn="kubernetes-admin", organizations=["system:masters"])
    ensure_service_account_key(folder)
    return ca


def apiserver_names(
    *, service_ip: str, zone: str, advertise: str, extra_sans: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """DNS names and addresses of the API server's certificate."""
    dns_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{zone}"]
    dns_names += ["localhost", socket.gethostname().lower()]
    ips = [service_ip, advertise, "127.0.0.1"]
    for extra in extra_sans:
        (ips if _is_address(extra) else dns_names).append(extra)
    return list(dict.fromkeys(dns_names)), list(dict.fromkeys(ips))


def ensure_leaf(
    folder: Path,
    name: str,
    ca: Authority,
    *,
    cn: str,
    organizations: Iterable[str] = (),
    dns_names: Iterable[str] = (),
    ips: Iterable[str] = (),
    usages: Iterable[str] = (CLIENT,),
) -> KeyPair:
    """The pair `<name>.crt`, `<name>.key`; issued anew when missing, ending soon, of another CA or short of names."""
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    dns_names, ips = list(dns_names), list(ips)
    if cert_file.exists() and key_file.exists():
        cert = load_cert(cert_file)
        if _still_good(cert, ca, dns_names=dns_names, ips=ips):
            return KeyPair(cert_file.read_bytes(), key_file.read_bytes())
    pair = issue(ca, cn=cn, organizations=organizations, dns_names=dns_names, ips=ips, usages=usages)
    files.replace(key_file, pair.key_pem, _PRIVATE)
    files.replace(cert_file, pair.cert_pem, _PUBLIC)
    return pair


def ensure_service_account_key(folder: Path) -> None:
    """sa.key, which signs service account tokens, and sa.pub, which checks them."""
    _private_folder(folder)
    key_file, public_file = folder / "sa.key", folder / "sa.pub"
    if not key_file.exists():
        files.replace(key_file, key_pem(ec.generate_private_key(ec.SECP256R1())), _PRIVATE)
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise PkiError(f"{key_file}: {error}") from error
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if not public_file.exists() or public_file.read_bytes() != public:
        files.replace(public_file, public, _PUBLIC)


def write_pair(folder: Path, name: str, pair: KeyPair) -> None:
    """`<name>.crt` and `<name>.key`, the key readable by its owner only."""
    _private_folder(folder)
    files.replace(folder / f"{name}.key", pair.key_pem, _PRIVATE)
    files.replace(folder / f"{name}.crt", pair.cert_pem, _PUBLIC)


def subject(der: bytes) -> tuple[str, tuple[str, ...]]:
    """Common name and organizations of a DER certificate: a user and its groups. PkiError when unreadable."""
    try:
        name = x509.load_der_x509_certificate(der).subject
    except ValueError as error:
        raise PkiError(f"peer certificate: {error}") from error
    common = [str(each.value) for each in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = tuple(str(each.value) for each in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return (common[0] if common else ""), groups


def _new_ca(cn: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, cn)])
    builder = _builder(name, name, key.public_key(), days=CA_DAYS, not_after=None)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certs=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Authority(builder.sign(key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    days: float,
    not_after: datetime | None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(end if not_after is None else min(end, not_after))
    )


def _key_usage(*, signs_certs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certs,
        crl_sign=signs_certs,
        encipher_only=False,
        decipher_only=False,
    )


def authority_id(ca: Authority) -> x509.AuthorityKeyIdentifier:
    """What ties a certificate to the key of its CA."""
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())


def _still_good(cert: x509.Certificate, ca: Authority, *, dns_names: list[str], ips: list[str]) -> bool:
    if cert.not_valid_after_utc - datetime.now(UTC) < RENEW_BEFORE:
        return False
    try:
        cert.verify_directly_issued_by(ca.cert)
    except Exception:  # any reason means the same: issue anew
        return False
    try:
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return not dns_names and not ips
    present = set(names.get_values_for_type(x509.DNSName))
    addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    return present >= set(dns_names) and addresses >= {str(ipaddress.ip_address(each)) for each in ips}


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as the files hold it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(pem: bytes) -> object:
    """The public half of a private key in PEM, to be compared with a certificate's."""
    return serialization.load_pem_private_key(pem, None).public_key()


def _public(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
