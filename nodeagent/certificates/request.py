"""One certificate asked of the cluster: a key, a request, the wait for whoever approves and signs it.

The same for a machine that joins with a token and for a node that renews. Knows neither files nor renewal.
"""

import base64
import logging

from cryptography import x509

from kube import csr, pki, scheme, status
from kube.client import errors as client_errors
from kube.client.rest import Client
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.certificates import plan

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 900.0
TELL_SECONDS = 10.0


class Refused(errors.NodeagentError):
    """The cluster will not give this certificate, or nobody has approved it in time."""


async def issue(client: Client, wanted: plan.Wanted, *, clock: Clock, patience: float = PATIENCE_SECONDS) -> bytes:
    """Certificate and key, PEM in one. Raises Refused, ApiError or Unreachable."""
    key = csr.new_key()
    body = csr.make(
        key,
        common_name=wanted.common_name,
        organizations=[pki.NODE_GROUP],
        dns_names=wanted.dns_names,
        ips=wanted.ips,
    )
    made = await client.create(
        scheme.CERTIFICATE_SIGNING_REQUESTS,
        {
            "apiVersion": scheme.CERTIFICATE_SIGNING_REQUESTS.api_version,
            "kind": scheme.CERTIFICATE_SIGNING_REQUESTS.kind,
            "metadata": {"generateName": "csr-"},
            "spec": {
                "signerName": wanted.signer,
                "usages": list(wanted.usages),
                "request": base64.b64encode(body).decode(),
            },
        },
    )
    cert = await _signed(client, made["metadata"]["name"], clock=clock, patience=patience)
    _check(cert, key)
    return cert + key


async def _signed(client: Client, name: str, *, clock: Clock, patience: float) -> bytes:
    start, told = clock.monotonic(), False
    backoff = Backoff(0.1, 5.0, factor=1.5)
    while True:
        try:
            found = await client.get(scheme.CERTIFICATE_SIGNING_REQUESTS, name)
        except client_errors.Unreachable as e:
            log.info("signing request %s: %s; asking again", name, e)
            found = {}
        state = found.get("status") or {}
        for condition in state.get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                why = condition.get("message") or condition.get("reason") or "no reason given"
                raise Refused(f"signing request {name} was {condition['type'].lower()}: {why}")
        if state.get("certificate"):
            return base64.b64decode(state["certificate"])
        waited = clock.monotonic() - start
        if waited > patience:
            raise Refused(f"signing request {name} was not approved within {patience:.0f} s: {_hint(name)}")
        if waited > TELL_SECONDS and not told:
            told = True
            log.warning("signing request %s is still open: %s", name, _hint(name))
        await clock.sleep(backoff.next(name))


def _hint(name: str) -> str:
    return f"if nobody approves such requests in this cluster, run: kubectl certificate approve {name}"


def _check(cert: bytes, key: bytes) -> None:
    try:
        good = x509.load_pem_x509_certificate(cert).public_key() == pki.public_key(key)
    except ValueError as e:
        raise Refused(f"what was signed is no certificate: {e}") from e
    if not good:
        raise Refused("the certificate that came back is for another key")


def explain(error: Exception) -> str:
    """A failure to get a certificate, in words for a person."""
    if isinstance(error, status.ApiError) and error.code == 401:
        return (
            "the API server does not accept this node's certificate (any more): join again with a fresh token, "
            "nodeagent install agent --server URL --token TOKEN"
        )
    return str(error)
