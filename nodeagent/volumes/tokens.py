"""Service account tokens for pods: asked for once, kept, and renewed well before they end.

Owns the TokenRequest call and the moment of renewal. Must not know files. Never logs a token.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from datetime import datetime, timedelta
from typing import Any, Protocol

from kube import scheme, status, types
from kube.client import errors
from kube.client.rest import Client
from kube.runtime import clock as clocks
from nodeagent.volumes.model import VolumeError
from nodeagent.volumes.payload import TokenKey

log = logging.getLogger(__name__)

_MAX_AGE = timedelta(hours=24)
_JITTER = 10.0
_RETRY = timedelta(seconds=30)


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """One token and its life. `text` is a secret."""

    text: str = dataclasses.field(repr=False)
    issued: datetime
    expires: datetime


def renew_at(token: Token, *, jitter: float = 0.0) -> datetime:
    """When to ask for the next one: with a fifth of its life left, or 24 hours old. `jitter`: seconds earlier."""
    life = token.expires - token.issued
    return min(token.issued + life * 0.8, token.issued + _MAX_AGE) - timedelta(seconds=jitter)


class TokenRequester(Protocol):
    """Where tokens come from."""

    async def request(self, pod: types.Pod, key: TokenKey) -> Token:
        """Ask for a token bound to the pod. Raises VolumeError."""


class ApiTokens:
    """Tokens from the API server."""

    def __init__(self, *, client: Client, clock: clocks.Clock) -> None:
        self._client = client
        self._clock = clock

    async def request(self, pod: types.Pod, key: TokenKey) -> Token:
        """Ask for a token bound to the pod."""
        meta = pod.metadata
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
        spec: dict[str, Any] = {"expirationSeconds": key.seconds, "boundObjectRef": bound}
        if key.audience:
            spec["audiences"] = [key.audience]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        account = pod.spec.service_account_name or "default"
        issued = self._clock.now()
        try:
            answer = await self._client.create(
                scheme.SERVICE_ACCOUNTS, body, namespace=meta.namespace, name=account, subresource="token"
            )
            given = answer["status"]
            return Token(given["token"], issued, clocks.parse_rfc3339(given["expirationTimestamp"]))
        except (status.ApiError, errors.ClientError) as e:
            raise VolumeError(f"failed to fetch token: {e}") from e
        except (KeyError, TypeError, ValueError) as e:
            raise VolumeError("failed to fetch token: the answer holds no token with an expirationTimestamp") from e


class Tokens:
    """The tokens in use."""

    def __init__(self, requester: TokenRequester, *, clock: clocks.Clock) -> None:
        self._requester = requester
        self._clock = clock
        self._held: dict[TokenKey, tuple[Token, datetime]] = {}

    async def get(self, pod: types.Pod, key: TokenKey) -> str:
        """Return a token that is not due for renewal, or, when renewal fails, one that is still valid."""
        held = self._held.get(key)
        now = self._clock.now()
        if held is not None and now < held[1]:
            return held[0].text
        try:
            token = await self._requester.request(pod, key)
        except VolumeError as e:
            if held is None or now >= held[0].expires:
                raise
            log.warning(
                "token of pod %s/%s not renewed, kept for now: %s", pod.metadata.namespace, pod.metadata.name, e
            )
            self._held[key] = (held[0], now + _RETRY)
            return held[0].text
        self._held[key] = (token, renew_at(token, jitter=random.uniform(0, _JITTER)))
        return token.text

    def next_renewal(self) -> datetime | None:
        """The earliest moment any token is due."""
        return min((due for _, due in self._held.values()), default=None)

    def due(self) -> set[str]:
        """The pods, by uid, that have a token to renew now."""
        now = self._clock.now()
        return {key.pod_uid for key, (_, due) in self._held.items() if due <= now}

    def forget(self, pod_uid: str) -> None:
        """Drop a pod's tokens."""
        for key in [key for key in self._held if key.pod_uid == pod_uid]:
            del self._held[key]
