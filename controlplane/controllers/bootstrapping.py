"""Bootstrap tokens: cleared away when they expire, and the cluster's public description signed with each of them.

`signatures` and `due` are pure. The signature (JWS, HMAC-SHA256, the content detached) lets kubeadm tell the true
cluster-info from a forged one; our own agents go by the pin of the CA. Upstream `pkg/controller/bootstrap`.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from controlplane.controllers import reconcile, writes
from controlplane.projection import JSON, ConfigMap, Secret
from kube import bootstraptoken, scheme
from kube.client.informer import Informer
from kube.runtime.component import Deps

_ALL = "all"
_INFO = f"{bootstraptoken.INFO_NAMESPACE}/{bootstraptoken.INFO_NAME}"
CHECK_SECONDS = 600.0


def sign(content: str, token: bootstraptoken.Token) -> str:
    """The detached signature of a text: `<header>..<signature>`."""
    header = _url64(json.dumps({"alg": "HS256", "kid": token.id}, separators=(",", ":")).encode())
    message = f"{header}.{_url64(content.encode())}".encode()
    return f"{header}..{_url64(hmac.digest(token.secret.encode(), message, hashlib.sha256))}"


def signatures(data: Mapping[str, str], tokens: Iterable[bootstraptoken.Kept], now: datetime) -> dict[str, str | None]:
    """What to change in cluster-info: a signature for each token that signs, None for those to take away."""
    content = data.get(bootstraptoken.INFO_KEY)
    wanted: dict[str, str] = {}
    if content:
        good = (kept.token for kept in tokens if kept.signs and not kept.expired(now))
        wanted = {bootstraptoken.SIGNATURE_PREFIX + token.id: sign(content, token) for token in good}
    have = {key: value for key, value in data.items() if key.startswith(bootstraptoken.SIGNATURE_PREFIX)}
    gone: dict[str, str | None] = {key: None for key in have if key not in wanted}
    return gone | {key: value for key, value in wanted.items() if have.get(key) != value}


def due(kept: bootstraptoken.Kept, now: datetime) -> float | None:
    """Seconds until a token expires, 0 when it has; None for one that never does."""
    return None if kept.expires is None else max(0.0, (kept.expires - now).total_seconds())


def _secrets(deps: Deps) -> Informer[Secret]:
    # Upstream's indexed field: the only kind of Secret the control plane keeps in memory.
    selector = f"type={bootstraptoken.SECRET_TYPE}"
    return deps.informers.get(scheme.SECRETS, Secret, namespace=bootstraptoken.NAMESPACE, field_selector=selector)


def _kept(secret: Secret) -> bootstraptoken.Kept | None:
    found: JSON = msgspec.to_builtins(secret)
    return bootstraptoken.of_secret(found)


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class InfoSigner:
    """Keeps cluster-info signed. One key."""

    def __init__(self, deps: Deps) -> None:
        self._clock = deps.clock
        self._secrets = _secrets(deps)
        name = f"metadata.name={bootstraptoken.INFO_NAME}"
        self._infos = deps.informers.get(
            scheme.CONFIG_MAPS, ConfigMap, namespace=bootstraptoken.INFO_NAMESPACE, field_selector=name
        )
        self.loop = reconcile.Loop(
            "bootstrapsigner",
            deps=deps,
            reads=(self._infos, self._secrets),
            reconcile=self._reconcile,
            everything=lambda: [_ALL],
        )
        self._infos.subscribe(lambda old, new: self.loop.queue.add(_ALL))
        self._secrets.subscribe(lambda old, new: self.loop.queue.add(_ALL))

    async def _reconcile(self, key: str) -> None:
        info = self._infos.cache.get(_INFO)
        if info is None:
            return
        tokens = [kept for each in self._secrets.cache.values() if (kept := _kept(each))]
        changes = signatures(info.data, tokens, self._clock.now())
        if changes:
            meta = info.metadata
            patch = writes.Patch(
                resource=scheme.CONFIG_MAPS,
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                version=meta.resource_version,
                body={"data": changes},
            )
            await self.loop.write(key, patch, informer=self._infos)


class TokenCleaner:
    """Deletes expired tokens. Keys are those of the Secrets."""

    def __init__(self, deps: Deps) -> None:
        self._clock = deps.clock
        self._secrets = _secrets(deps)
        self.loop = reconcile.Loop("tokencleaner", deps=deps, reads=(self._secrets,), reconcile=self._reconcile)
        self._secrets.subscribe(lambda old, new: self._noticed(new))

    def _noticed(self, secret: Secret | None) -> None:
        if secret is not None:
            self.loop.queue.add(f"{secret.metadata.namespace}/{secret.metadata.name}")

    async def _reconcile(self, key: str) -> None:
        secret = self._secrets.cache.get(key)
        kept = _kept(secret) if secret else None
        seconds = due(kept, self._clock.now()) if kept else None
        if secret is None or seconds is None:
            return
        if seconds > 0:
            # Never far ahead: the wall clock may be set meanwhile.
            self.loop.queue.add_after(key, min(seconds + 0.1, CHECK_SECONDS))
            return
        meta = secret.metadata
        delete = writes.Delete(resource=scheme.SECRETS, namespace=meta.namespace, name=meta.name, uid=meta.uid)
        await self.loop.write_all(key, [delete], informer=self._secrets)
