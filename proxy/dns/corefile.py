"""CoreDNS's configuration file, read into the fields of a DNSConfiguration. PURE.

The common plugins are accepted; any other plugin or option is refused by name, with its line. Must not know how the
fields are used.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kube.runtime.duration import parse_duration

Fields = dict[str, Any]
TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
ACCEPTED_ALONE = ("errors", "loop", "ready", "loadbalance", "log")
RELOAD_SECONDS = 30.0
"""CoreDNS's own default."""


class CorefileError(ValueError):
    """A Corefile cannot be used; the text names file, line and what is wrong."""


@dataclass(slots=True)
class Directive:
    """A line: its words, and the lines in its braces."""

    line: int
    words: list[str]
    block: list["Directive"] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The first word."""
        return self.words[0]

    @property
    def args(self) -> list[str]:
        """The words behind the first."""
        return self.words[1:]


def parse(text: str, *, source: str) -> Fields:
    """The fields (as in YAML) that a Corefile sets. Raises CorefileError."""
    found: Fields = {}
    try:
        for block in _block(_lines(text), opened=0):
            _server(block, found)
    except _Refused as error:
        raise CorefileError(f"{source}:{error.line}: {error.reason}") from None
    return found


class _Refused(Exception):
    def __init__(self, directive: Directive | int, reason: str) -> None:
        super().__init__(reason)
        self.line = directive if isinstance(directive, int) else directive.line
        self.reason = reason


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = []
        for quoted, plain in TOKEN.findall(line):
            if plain.startswith("#"):
                break
            words.append(quoted or plain)
        if words:
            yield number, words


def _block(lines: Iterator[tuple[int, list[str]]], *, opened: int) -> list[Directive]:
    found: list[Directive] = []
    for number, words in lines:
        if words == ["}"]:
            if not opened:
                raise _Refused(number, "'}' without '{'")
            return found
        directive = Directive(number, [word for word in words if word not in ("{", "}")])
        if not directive.words:
            raise _Refused(number, "'{' without a name before it")
        found.append(directive)
        if words[-1] == "{":
            directive.block = _block(lines, opened=number)
        elif "{" in words:
            raise _Refused(number, "'{' must end its line")
    if opened:
        raise _Refused(opened, "'{' is never closed")
    return found


def _server(server: Directive, found: Fields) -> None:
    """A server block: the root one is ours, any other a stub domain that forwards."""
    keys = [re.sub(r"^dns://|:\d+$", "", word.rstrip(",")) for word in server.words if word != ","]
    if any(word.startswith(("tls://", "https://", "grpc://", "quic://")) for word in server.words):
        raise _Refused(server, f"server {server.name!r}: only plain DNS is served")
    zones = [key.strip(".") for key in keys]
    if "" in zones or any(each.name == "kubernetes" for each in server.block):
        for directive in server.block:
            _plugin(directive, found)
        return
    for directive in server.block:
        if directive.name == "forward":
            servers = list(directive.args[1:])
            found.setdefault("stubDomains", {}).update(dict.fromkeys(zones, servers))
        elif directive.name not in ("errors", "cache", "log", "loop", "reload", "loadbalance", "prometheus"):
            raise _Refused(directive, f"plugin {directive.name!r} is not supported in the block of {keys[0]}")


def _plugin(directive: Directive, found: Fields) -> None:
    name = directive.name
    if name in ACCEPTED_ALONE:
        _alone(directive, found)
        return
    read = PLUGINS.get(name)
    if read is None:
        known = ", ".join(sorted((*ACCEPTED_ALONE, *PLUGINS)))
        raise _Refused(directive, f"plugin {name!r} is not supported; known are {known}")
    read(directive, found)


def _alone(directive: Directive, found: Fields) -> None:
    """A plugin that is always there, or just switched on; addresses and zones behind it are the node's business."""
    if directive.block:
        option = directive.block[0]
        raise _Refused(option, f"{directive.name}: option {option.name!r} is not supported")
    if directive.name == "loadbalance" and directive.args not in ([], ["round_robin"]):
        raise _Refused(directive, f"loadbalance: {' '.join(directive.args)!r} is not supported")
    if directive.name == "log":
        found["logQueries"] = True


def _reload(directive: Directive, found: Fields) -> None:
    text = directive.args[0] if directive.args else f"{RELOAD_SECONDS}s"
    found["reloadSeconds"] = _seconds(directive, text)


def _kubernetes(directive: Directive, found: Fields) -> None:
    zones = [zone.strip(".") for zone in directive.args if not zone.strip(".").endswith("arpa")]
    if len(zones) > 1:
        raise _Refused(directive, f"kubernetes: one zone, not {len(zones)}")
    if zones:
        found["clusterDomain"] = zones[0]
    for option in directive.block:
        if option.name == "pods":
            found["pods"] = _one(option)
        elif option.name == "ttl":
            found["ttl"] = _number(option)
        elif option.name != "fallthrough":
            raise _Refused(option, f"kubernetes: option {option.name!r} is not supported")


def _forward(directive: Directive, found: Fields) -> None:
    if len(directive.args) < 2:
        raise _Refused(directive, "forward: want FROM TO...")
    zone, servers = directive.args[0].strip("."), directive.args[1:]
    if any(server.startswith("tls://") for server in servers):
        raise _Refused(directive, "forward: tls is not supported")
    if zone:
        found.setdefault("stubDomains", {})[zone] = servers
    else:
        found["forward"] = servers
    for option in directive.block:
        if option.name == "policy":
            found["forwardPolicy"] = _one(option)
        elif option.name == "max_concurrent":
            found["maxConcurrent"] = _number(option)
        elif option.words not in (["prefer_udp"], ["max_fails", "2"], ["health_check", "0.5s"], ["expire", "10s"]):
            raise _Refused(option, f"forward: option {option.name!r} is not supported")


def _cache(directive: Directive, found: Fields) -> None:
    if directive.args and directive.args[0].isdigit():
        found["cacheSeconds"] = found["negativeCacheSeconds"] = int(directive.args[0])
    found["serveStaleSeconds"] = found["prefetch"] = 0
    for option in directive.block:
        if option.name in ("success", "denial"):
            seconds = option.args[1] if len(option.args) > 1 else ""
            if seconds.isdigit():
                found["cacheSeconds" if option.name == "success" else "negativeCacheSeconds"] = int(seconds)
        elif option.name == "serve_stale":
            found["serveStaleSeconds"] = int(_seconds(option, option.args[0])) if option.args else 3600
        elif option.name == "prefetch":
            found["prefetch"] = _number(option, upto=3)
        elif option.name == "disable":
            continue  # answers of the zone are not cached at all
        else:
            raise _Refused(option, f"cache: option {option.name!r} is not supported")


def _hosts(directive: Directive, found: Fields) -> None:
    if directive.args and directive.args[0].startswith("/"):
        found["hostsFile"] = directive.args[0]
    for option in directive.block:
        if option.name == "ttl":
            found["hostsTTL"] = _number(option)
        elif re.match(r"^[0-9a-fA-F:.]+$", option.name) and option.args:
            found.setdefault("hosts", []).append(" ".join(option.words))
        elif option.name not in ("fallthrough", "reload"):
            raise _Refused(option, f"hosts: option {option.name!r} is not supported")


def _rewrite(directive: Directive, found: Fields) -> None:
    words = [word for word in directive.args if word not in ("stop", "continue")]
    if not words or words[0] != "name":
        raise _Refused(directive, f"rewrite: only names are rewritten, not {' '.join(directive.args[:1]) or 'nothing'}")
    rule = words[1:]
    if rule[3:] and rule[3:] != ["answer", "auto"]:
        raise _Refused(directive, f"rewrite: {' '.join(rule[3:])!r} is not supported: answers are always renamed back")
    if directive.block:
        raise _Refused(directive.block[0], f"rewrite: option {directive.block[0].name!r} is not supported")
    found.setdefault("rewrites", []).append(" ".join(rule[:3]))


def _health(directive: Directive, found: Fields) -> None:
    for option in directive.block:
        if option.name != "lameduck":
            raise _Refused(option, f"health: option {option.name!r} is not supported")
        found["lameduckSeconds"] = _seconds(option, _one(option))


def _prometheus(directive: Directive, found: Fields) -> None:
    """Its address is the node's business: several servers share a machine's addresses here."""
    if directive.block:
        raise _Refused(directive.block[0], f"prometheus: option {directive.block[0].name!r} is not supported")


def _autopath(directive: Directive, found: Fields) -> None:
    if directive.args[-1:] != ["@kubernetes"]:
        raise _Refused(directive, "autopath: only @kubernetes is supported")
    found["autopath"] = True


def _one(option: Directive) -> str:
    if len(option.args) != 1:
        raise _Refused(option, f"{option.name}: want one value")
    return option.args[0]


def _number(option: Directive, *, upto: int = 1) -> int:
    if not 0 < len(option.args) <= upto or not option.args[0].isdigit():
        raise _Refused(option, f"{option.name}: want a number, found {' '.join(option.args) or 'nothing'}")
    return int(option.args[0])


def _seconds(option: Directive, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise _Refused(option, f"{option.name}: {error}") from None


PLUGINS: dict[str, Callable[[Directive, Fields], None]] = {
    "kubernetes": _kubernetes,
    "forward": _forward,
    "cache": _cache,
    "hosts": _hosts,
    "reload": _reload,
    "rewrite": _rewrite,
    "health": _health,
    "prometheus": _prometheus,
    "autopath": _autopath,
}
