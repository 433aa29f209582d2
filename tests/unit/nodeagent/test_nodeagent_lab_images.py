"""The lab's own images, and archives a user brings."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from nodeagent.lab import archives, errors, images

SHELL = images.busybox(b"\x7fELF shell", applets=["sh", "busybox", "httpd"])


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}  # type: ignore[union-attr]


def follow(files: dict[str, bytes], descriptor: Any) -> bytes:
    algorithm, _, digest = descriptor["digest"].partition(":")
    blob = files[f"blobs/{algorithm}/{digest}"]
    assert len(blob) == descriptor["size"]
    return blob


def test_an_archive_leads_from_its_index_to_a_layer_with_the_program() -> None:
    files = members(images.archive(SHELL, architecture="amd64"))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    entry = json.loads(files["index.json"])["manifests"][0]
    manifest = json.loads(follow(files, entry))
    layer = follow(files, manifest["layers"][0])
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        assert tar.extractfile("bin/busybox").read() == b"\x7fELF shell"  # type: ignore[union-attr]
        assert tar.getmember("bin/busybox").mode == 0o755
        assert tar.getmember("bin/httpd").linkname == "busybox"
        assert tar.getmember("tmp").mode == 0o1777


def test_the_config_names_the_layer_by_what_it_holds() -> None:
    files = members(images.archive(SHELL, architecture="arm64"))
    manifest = json.loads(follow(files, json.loads(files["index.json"])["manifests"][0]))
    config = json.loads(follow(files, manifest["config"]))
    assert config["architecture"] == "arm64"
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    assert config["config"]["Cmd"] == ["sh"]


def test_a_folder_becomes_an_image_with_its_modes_and_links(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").write_bytes(b"#!/bin/sh")
    (tmp_path / "run").chmod(0o755)
    (tmp_path / "etc" / "conf").write_bytes(b"x")
    (tmp_path / "etc" / "conf").chmod(0o600)
    (tmp_path / "start").symlink_to("run")
    made = images.of_folder(tmp_path, name="example.com/own:1", entrypoint=["/run"])
    files = members(images.archive(made, architecture="amd64"))
    manifest = json.loads(follow(files, json.loads(files["index.json"])["manifests"][0]))
    with tarfile.open(fileobj=io.BytesIO(follow(files, manifest["layers"][0]))) as tar:
        assert (tar.getmember("run").mode, tar.getmember("etc/conf").mode) == (0o755, 0o600)
        assert tar.getmember("start").linkname == "run"
    assert json.loads(follow(files, manifest["config"]))["config"]["Entrypoint"] == ["/run"]


def test_an_empty_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(errors.LabError, match="holds no file"):
        images.of_folder(tmp_path, name="x:1")


def test_the_same_programs_give_the_same_archive() -> None:
    assert images.archive(SHELL, architecture="amd64") == images.archive(SHELL, architecture="amd64")


def test_one_archive_holds_several_images(tmp_path: Path) -> None:
    path = tmp_path / "both.tar"
    path.write_bytes(images.archive(SHELL, images.pause(b"x"), architecture="amd64"))
    assert archives.names(path) == [images.BUSYBOX, images.PAUSE]


def test_a_link_never_replaces_the_program_itself() -> None:
    assert "bin/busybox" not in SHELL.links


def test_the_name_in_an_archive_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(images.archive(images.pause(b"x"), architecture="amd64"))
    assert archives.names(path) == ["nodeagent.local/pause:1"]


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def test_the_tags_of_a_docker_archive_are_read(tmp_path: Path) -> None:
    content = json.dumps([{"Config": "c.json", "RepoTags": ["a:1", "b:2"]}]).encode()
    assert archives.names(write_tar(tmp_path / "docker.tar", {"manifest.json": content})) == ["a:1", "b:2"]


@pytest.mark.parametrize("content", [b"no archive at all", b""])
def test_a_file_that_is_no_archive_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(errors.LabError, match=r"notes\.txt is not an image archive"):
        archives.names(path)


def test_a_tar_without_an_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.LabError, match=r"neither manifest\.json nor index\.json"):
        archives.names(write_tar(tmp_path / "other.tar", {"readme": b"hello"}))


def test_a_missing_archive_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(errors.LabError, match="No such file"):
        archives.names(tmp_path / "none.tar")
