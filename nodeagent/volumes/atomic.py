"""Writing a folder of files so that a reader sees the old ones or the new ones, never a mixture.

Owns the layout: a stamped folder holds the files, `..data` points at it and is replaced by one rename, and every
visible name points through `..data`. Must not know what the files mean. Blocking: call it in a thread.
Follows the atomic writer of the upstream kubelet, so both can take over each other's folders.
"""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import datetime
from pathlib import Path

from nodeagent.volumes.model import File, Files

_DATA = "..data"
_NEW = "..data_tmp"


def write(folder: Path, files: Files, *, now: datetime, gid: int | None = None) -> bool:
    """Make the folder hold exactly these files. Returns False when it already did.

    With `gid` every file is readable by that group and every folder hands the group on.
    """
    current = _current(folder)
    if current is not None and _same(folder / current, files, gid):
        _link(folder, files)
        return False
    stamp = f"..{now:%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**10)}"
    _fill(folder / stamp, files, gid)
    temporary = folder / _NEW
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(stamp)
    temporary.rename(folder / _DATA)
    _link(folder, files)
    _clean(folder, files, stamp)
    return True


def set_group(folder: Path, gid: int) -> None:
    """Give a folder to a group: new files in it belong to the group too."""
    os.chown(folder, -1, gid)
    folder.chmod(folder.stat().st_mode & 0o7777 | 0o2070)


def _current(folder: Path) -> str | None:
    try:
        return os.readlink(folder / _DATA)
    except OSError:
        return None


def _final_mode(file: File, gid: int | None) -> int:
    return file.mode | 0o440 if gid is not None else file.mode


def _same(folder: Path, files: Files, gid: int | None) -> bool:
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    if present != set(files):
        return False
    try:
        for name, file in files.items():
            status = (folder / name).stat()
            if status.st_mode & 0o7777 != _final_mode(file, gid) or status.st_size != len(file.data):
                return False
            if (gid is not None and status.st_gid != gid) or (file.uid is not None and status.st_uid != file.uid):
                return False
            if (folder / name).read_bytes() != file.data:
                return False
    except OSError:
        return False
    return True


def _fill(folder: Path, files: Files, gid: int | None) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    made = {folder}
    for name, file in files.items():
        path = folder / name
        missing = [parent for parent in path.parents if folder in parent.parents and parent not in made]
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
            made.add(parent)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(handle, file.data)
            if gid is not None or file.uid is not None:
                os.fchown(handle, -1 if file.uid is None else file.uid, -1 if gid is None else gid)
            os.fchmod(handle, _final_mode(file, gid))
        finally:
            os.close(handle)
    if gid is not None:
        for path in made:
            set_group(path, gid)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _link(folder: Path, files: Files) -> None:
    for name in {name.split("/", 1)[0] for name in files}:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"{_DATA}/{name}")


def _clean(folder: Path, files: Files, stamp: str) -> None:
    visible = {name.split("/", 1)[0] for name in files}
    for entry in folder.iterdir():
        if entry.name in (_DATA, stamp) or entry.name in visible:
            continue
        if entry.is_symlink() or not entry.is_dir():
            entry.unlink(missing_ok=True)
        else:
            shutil.rmtree(entry, ignore_errors=True)
