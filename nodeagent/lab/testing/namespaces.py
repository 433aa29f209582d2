"""A namespace for a test: made before it, taken away with everything in it after it."""

from pathlib import Path

from kube import scheme, status
from kube.client import errors as client_errors
from kube.client import rest
from nodeagent.lab.testing import api


def create(config: Path, name: str) -> None:
    """Make it. Raises ApiError when it is there already."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    api.call(config, lambda client: client.create(scheme.NAMESPACES, manifest))


def delete(config: Path, name: str) -> None:
    """Kill its pods and delete it, without waiting; a lab that is gone has none."""

    async def remove(client: rest.Client) -> None:
        for pod in (await client.list(scheme.PODS, namespace=name))["items"]:
            await client.delete(scheme.PODS, pod["metadata"]["name"], namespace=name, grace_period=0)
        await client.delete(scheme.NAMESPACES, name)

    try:
        api.call(config, remove)
    except (client_errors.ClientError, status.ApiError, OSError):
        return
