"""Image names: whether they are valid, their default tag, and the pull policy that follows. PURE."""

import re
from typing import Final

HOST: Final = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?))*(?::[0-9]+)?"
)
PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
TAG: Final = r"[\w][\w.-]{0,127}"
DIGEST: Final = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
REFERENCE: Final = re.compile(rf"(?:{HOST}/)?{PART}(?:/{PART})*(?P<tag>:{TAG})?(?P<digest>@{DIGEST})?", re.ASCII)
IMAGE_ID: Final = re.compile(r"[0-9a-f]{64}")


def normalise(image: str) -> str | None:
    """The name with the tag it means; None if it is no image name."""
    found = REFERENCE.fullmatch(image)
    if found is None or IMAGE_ID.fullmatch(image):
        return None
    return image if found["tag"] or found["digest"] else f"{image}:latest"


def full(image: str) -> str | None:
    """The name with its registry too, as the runtime keeps it; None if it is no image name."""
    named = normalise(image)
    if named is None:
        return None
    first, slash, _ = named.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        return named
    return f"docker.io/{named}" if slash else f"docker.io/library/{named}"


def default_policy(image: str) -> str:
    """Always for `latest`, which moves; IfNotPresent for everything else."""
    named = normalise(image) or image
    return "Always" if named.endswith(":latest") and "@" not in named else "IfNotPresent"
