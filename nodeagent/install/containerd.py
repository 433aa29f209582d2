"""containerd's configuration: the host's own, with what a node needs added. PURE.

An imported file cannot take an entry out of `disabled_plugins` (Docker's package disables CRI there), so the result is
a file of its own beside the host's, which stays as it is and counts again after an uninstall.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

Toml = dict[str, Any]
CRI: Final = "io.containerd.grpc.v1.cri"
RUNTIME, IMAGES = "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"
CNI: Final = {"bin_dir": "/opt/cni/bin", "conf_dir": "/etc/cni/net.d"}


def adjusted(
    host: Mapping[str, Any],
    *,
    version: tuple[int, int],
    systemd_cgroup: bool,
    sandbox_image: str = "",
    restrict_oom_score: bool = False,
) -> Toml:
    """The host's configuration with CRI on, our CNI folders and the cgroup driver. `version`: of containerd."""
    made: Toml = json.loads(json.dumps(host))
    made["disabled_plugins"] = [each for each in made.get("disabled_plugins") or [] if not _is_cri(each)]
    second = version < (2, 0) or made.get("version") == 2
    made["version"] = 2 if second else 3
    runtime = _into(made, "plugins", CRI if second else RUNTIME)
    runtime["cni"] = {**runtime.get("cni", {}), **CNI}
    if not second:
        runtime["cni"].pop("bin_dir", None)
        runtime["cni"]["bin_dirs"] = [CNI["bin_dir"]]
        if version < (2, 1):
            runtime["cni"] = {**CNI}
    runc = _into(runtime, "containerd", "runtimes", "runc")
    runc.setdefault("runtime_type", "io.containerd.runc.v2")
    _into(runc, "options")["SystemdCgroup"] = systemd_cgroup
    if restrict_oom_score:
        runtime["restrict_oom_score_adj"] = True
    if sandbox_image and second:
        runtime["sandbox_image"] = sandbox_image
    elif sandbox_image:
        _into(made, "plugins", IMAGES, "pinned_images")["sandbox"] = sandbox_image
    return made


def render(document: Mapping[str, Any]) -> str:
    """TOML: values first, then tables, as the format wants it."""
    lines: list[str] = []
    _table(document, (), lines)
    return "\n".join(lines).strip() + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    values = {key: value for key, value in table.items() if not _tables(value)}
    if path and (values or not table):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            _table(value, (*path, key), lines)
        elif _tables(value):
            for each in value:
                lines += ["", f"[[{'.'.join(map(_key, (*path, key)))}]]"]
                lines += [f"{_key(name)} = {_value(inner)}" for name, inner in each.items()]


def _tables(value: Any) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and bool(value) and isinstance(value[0], Mapping))


def _key(text: str) -> str:
    return text if text.replace("_", "").replace("-", "").isalnum() and text.isascii() else json.dumps(text)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool | int | float) else json.dumps(str(value))


def _is_cri(name: str) -> bool:
    return name in ("cri", CRI, RUNTIME, IMAGES)


def _into(table: Toml, *path: str) -> Toml:
    for key in path:
        table = table.setdefault(key, {})
    return table
