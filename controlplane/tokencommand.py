"""`nodeagent token`: tokens made, listed and deleted, as Secrets through the API like anyone's.

Never prints a secret half again after it was made. Knows no store and no server process.
"""

import argparse
import asyncio
import json
import os
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from kube import bootstraptoken, kubeconfig, pki, scheme, status
from kube.client.errors import ClientError
from kube.client.http import HttpTransport
from kube.client.rest import Client
from kube.kubeconfig import RestConfig
from kube.runtime import clock, duration

ADMIN = Path("/etc/nodeagent/admin.kubeconfig")
Object = dict[str, Any]


class CommandError(Exception):
    """The command cannot do its work; the text says why."""


def run(options: argparse.Namespace) -> int:
    """One verb; 0 done, 1 with one line on standard error."""
    try:
        rest = kubeconfig.load(_path(options.kubeconfig))
        print(asyncio.run(_run(options, rest)))
    except (CommandError, kubeconfig.KubeconfigError, status.ApiError, ClientError, bootstraptoken.TokenError) as e:
        print(f"nodeagent token: {e}", file=sys.stderr)
        return 1
    return 0


def _path(given: str) -> Path:
    return Path(given or os.environ.get("KUBECONFIG") or ADMIN)


async def _run(options: argparse.Namespace, rest: RestConfig) -> str:
    client = Client(HttpTransport(rest), user_agent="nodeagent-token")
    try:
        if options.verb == "create":
            return await _create(client, rest, options)
        if options.verb == "list":
            return shown(await kept(client), now=clock.SystemClock().now(), as_json=options.output == "json")
        return await _delete(client, options)
    finally:
        await client.close()


async def _create(client: Client, rest: RestConfig, options: argparse.Namespace) -> str:
    join = wanted(options.token, ca_pin(rest))
    expires = expiry(options.ttl, clock.SystemClock().now())
    secret = bootstraptoken.secret(join.token, expires=expires, description=options.description)
    try:
        await client.create(scheme.SECRETS, secret)
    except status.ApiError as e:
        if not (options.token and status.is_already_exists(e)):
            raise
    if options.output == "json":
        stamp = clock.rfc3339(expires) if expires else None
        return json.dumps({"token": str(join), "server": rest.server, "expires": stamp})
    if options.print_command:
        return f"python3 -m nodeagent install agent --server {rest.server} --token {join}"
    return str(join)


def wanted(text: str, pin: str) -> bootstraptoken.JoinString:
    """A given token or a fresh one, with the pin of this cluster. CommandError for a token of another cluster."""
    if not text:
        return bootstraptoken.JoinString(bootstraptoken.new(), pin)
    if "@" not in text:
        return bootstraptoken.JoinString(bootstraptoken.parse(text), pin)
    given = bootstraptoken.parse_join(text)
    if given.pin != pin:
        raise CommandError("--token: it names the CA of another cluster")
    return given


def expiry(ttl: str, now: datetime) -> datetime | None:
    """When a token of this lifetime ends; None for 0. CommandError for what is no lifetime."""
    try:
        seconds = 0.0 if ttl == "0" else duration.parse_duration(ttl)
    except ValueError as e:
        raise CommandError(f"--ttl: {e}") from e
    if seconds < 0:
        raise CommandError(f"--ttl: {ttl!r} is in the past")
    return now + timedelta(seconds=seconds) if seconds else None


def ca_pin(rest: RestConfig) -> str:
    """The pin of the CA a kubeconfig trusts; CommandError when it names none, or several."""
    data = rest.ca_data or (rest.ca_file.read_bytes() if rest.ca_file else b"")
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        found = []
    if len(found) != 1:
        raise CommandError("the kubeconfig does not name the one CA of the cluster, which a token must")
    return pki.pin(found[0])


async def kept(client: Client) -> list[bootstraptoken.Kept]:
    """All tokens there are, in order of their ids."""
    selector = f"type={bootstraptoken.SECRET_TYPE}"
    found = await client.list(scheme.SECRETS, namespace=bootstraptoken.NAMESPACE, field_selector=selector)
    tokens = [each for item in found["items"] if (each := bootstraptoken.of_secret(item))]
    return sorted(tokens, key=lambda each: each.token.id)


def shown(tokens: list[bootstraptoken.Kept], *, now: datetime, as_json: bool) -> str:
    """The list, for people or for programs."""
    rows = [
        {
            "id": each.token.id,
            "expires": clock.rfc3339(each.expires) if each.expires else None,
            "expired": each.expired(now),
            "groups": list(each.groups),
            "description": each.description,
        }
        for each in tokens
    ]
    if as_json:
        return json.dumps({"tokens": rows})
    lines = [("TOKEN", "EXPIRES", "DESCRIPTION")]
    for row in rows:
        end = "expired" if row["expired"] else str(row["expires"] or "never")
        lines.append((f"{row['id']}.****", end, str(row["description"])))
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


async def _delete(client: Client, options: argparse.Namespace) -> str:
    done = []
    for text in options.tokens:
        name = text.partition(".")[0]
        try:
            await client.delete(scheme.SECRETS, bootstraptoken.SECRET_PREFIX + name, namespace=bootstraptoken.NAMESPACE)
        except status.ApiError as e:
            if status.is_not_found(e):
                raise CommandError(f"there is no token {name}") from e
            raise
        done.append(name)
    if options.output == "json":
        return json.dumps({"deleted": done})
    return "\n".join(f"token {name} deleted" for name in done)
