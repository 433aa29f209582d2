"""Image archives that a user brings: which images are in one, and putting it into a containerd.

Must not know where that containerd is: it is given the command that reaches it.
"""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nodeagent.lab import errors, processes


def names(path: Path) -> list[str]:
    """The image names in a docker or OCI archive. Raises LabError when it is neither."""
    try:
        with tarfile.open(path) as tar:
            docker, index = _member(tar, "manifest.json"), _member(tar, "index.json")
    except OSError as error:
        raise errors.LabError(f"{path}: {error.strerror or error}") from error
    except (tarfile.TarError, ValueError) as error:
        raise errors.LabError(f"{path} is not an image archive: {error}") from error
    if docker is None and index is None:
        raise errors.LabError(f"{path} is not an image archive: it has neither manifest.json nor index.json")
    if docker is not None:
        return [name for image in docker for name in image.get("RepoTags") or ()]
    annotations = [entry.get("annotations", {}) for entry in (index or {}).get("manifests", ())]
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    return [name for each in annotations if (name := next((each[key] for key in keys if key in each), ""))]


def _member(tar: tarfile.TarFile, name: str) -> Any:
    for candidate in (name, "./" + name):
        try:
            file = tar.extractfile(candidate)
        except KeyError:
            continue
        if file is not None:
            return json.load(file)
    return None


def put(path: Path, *, argv: Sequence[str], seconds: float) -> None:
    """Import the archive with `argv`, a `ctr images` command. Raises LabError with what containerd said."""
    processes.run([*argv, "import", "-"], stdin=path.read_bytes(), seconds=seconds)
