"""Which certificate a node wants, and when it wants a new one. PURE.

Renewal is between 70 and 90 % of a certificate's life, as upstream's kubelet does it (`client-go/util/certificate`), so
that nodes joined together do not renew together.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from kube import csr, pki

EARLIEST, SPREAD = 0.7, 0.2
CLIENT_FILE: Final = "kubelet-client-current.pem"
SERVING_FILE: Final = "kubelet-server-current.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to ask for."""

    signer: str
    usages: tuple[str, ...]
    common_name: str
    dns_names: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()


def client(node_name: str) -> Wanted:
    """What the kubelet shows the API server."""
    usages = (csr.DIGITAL_SIGNATURE, csr.CLIENT_AUTH)
    return Wanted(signer=csr.KUBELET_CLIENT, usages=usages, common_name=pki.NODE_PREFIX + node_name)


def serving(node_name: str, ips: Iterable[str]) -> Wanted:
    """What the kubelet shows its callers: valid for the node's name and addresses, and no more."""
    return Wanted(
        signer=csr.KUBELET_SERVING,
        usages=(csr.DIGITAL_SIGNATURE, csr.SERVER_AUTH),
        common_name=pki.NODE_PREFIX + node_name,
        dns_names=(node_name,),
        ips=tuple(ips),
    )


def renewal(cert: x509.Certificate, *, jitter: float) -> datetime:
    """When to ask for the next one; `jitter` from 0 to 1."""
    life = cert.not_valid_after_utc - cert.not_valid_before_utc
    return cert.not_valid_before_utc + life * (EARLIEST + SPREAD * jitter)


def names(cert: x509.Certificate) -> tuple[set[str], set[str]]:
    """DNS names and addresses a certificate is good for."""
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set(), set()
    addresses = {str(each) for each in found.get_values_for_type(x509.IPAddress)}
    return set(found.get_values_for_type(x509.DNSName)), addresses


def lacks(cert: x509.Certificate, wanted: Wanted) -> Sequence[str]:
    """The names a certificate should be good for and is not: a node may have got another address."""
    dns_names, addresses = names(cert)
    missing = [each for each in wanted.dns_names if each not in dns_names]
    return [*missing, *(each for each in wanted.ips if str(ipaddress.ip_address(each)) not in addresses)]


def pause(cert: x509.Certificate | None, wanted: Wanted, *, now: datetime, jitter: float) -> float:
    """Seconds until a new certificate is asked for; 0 for at once."""
    if cert is None or lacks(cert, wanted):
        return 0.0
    return max(0.0, (renewal(cert, jitter=jitter) - now) / timedelta(seconds=1))
