"""Image names: what their tag says about pulling. Must not know registries."""

from __future__ import annotations


def pull_policy(image: str) -> str:
    """Always for `:latest`, or for neither tag nor digest; IfNotPresent otherwise."""
    name, digest, _ = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if tag == "latest" or not (tag or digest) else "IfNotPresent"
