"""Names, labels and keys: which text is legal, and upstream's words for why it is not.

Owns the syntax rules of apimachinery `util/validation`. Every function returns the list of faults,
empty for legal text. Must not know fields or kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

NameRule = Callable[[str], tuple[str, ...]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL_UNDERSCORE = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_UNDERSCORE = rf"{_LABEL_UNDERSCORE}(\.{_LABEL_UNDERSCORE})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"
_PERCENT = "[0-9]+%"

_label_re = re.compile(_LABEL)
_subdomain_re = re.compile(_SUBDOMAIN)
_subdomain_underscore_re = re.compile(_SUBDOMAIN_UNDERSCORE)
_qualified_re = re.compile(_QUALIFIED)
_config_key_re = re.compile(_CONFIG_KEY)
_header_re = re.compile(_HEADER)
_percent_re = re.compile(_PERCENT)
_port_charset_re = re.compile("[-a-z0-9]+")
_printable_re = re.compile(r"[ -<>-~]*")

_CACHE = 4096


def max_bytes(limit: int) -> str:
    """Upstream's phrase for text that is too long."""
    return f"must be no more than {limit} bytes"


def _pattern(text: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{text} ({'e.g. ' if examples else ''}{shown}regex used for validation is '{pattern}')"


def _too_long(value: str, limit: int) -> list[str]:
    return [max_bytes(limit)] if len(value) > limit and len(value.encode()) > limit else []


@lru_cache(_CACHE)
def dns_label(value: str) -> tuple[str, ...]:
    """An RFC 1123 label."""
    faults = _too_long(value, 63)
    if not _label_re.fullmatch(value):
        if _subdomain_re.fullmatch(value):
            faults.append("must not contain dots")
        else:
            text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
            text += "and must start and end with an alphanumeric character"
            faults.append(_pattern(text, _LABEL, "my-name", "123-abc"))
    return tuple(faults)


@lru_cache(_CACHE)
def dns_subdomain(value: str) -> tuple[str, ...]:
    """An RFC 1123 subdomain: labels joined by dots."""
    faults = _too_long(value, 253)
    if not _subdomain_re.fullmatch(value):
        text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
        text += "and must start and end with an alphanumeric character"
        faults.append(_pattern(text, _SUBDOMAIN, "example.com"))
    return tuple(faults)


def dns_subdomain_underscore(value: str) -> tuple[str, ...]:
    """A subdomain whose labels may hold underscores, as resolvers' search lists do."""
    faults = _too_long(value, 253)
    if not _subdomain_underscore_re.fullmatch(value):
        text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
        text += "and must start and end with an alphanumeric character"
        faults.append(_pattern(text, _SUBDOMAIN_UNDERSCORE, "example.com"))
    return tuple(faults)


@lru_cache(_CACHE)
def qualified_name(value: str) -> tuple[str, ...]:
    """A label key: a name, or a DNS prefix, a slash and a name."""
    text = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
    text += "an alphanumeric character"
    shape = _pattern(text, _QUALIFIED, "MyName", "my.name", "123-abc")
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return (f"a valid label key {shape} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",)
    faults: list[str] = []
    if slash:
        found = dns_subdomain(prefix) if prefix else ("must be non-empty",)
        faults += [f"prefix part {fault}" for fault in found]
    if not name:
        faults.append("name part must be non-empty")
    else:
        faults += [f"name part {fault}" for fault in _too_long(name, 63)]
    if not _qualified_re.fullmatch(name):
        faults.append(f"name part {shape}")
    return tuple(faults)


@lru_cache(_CACHE)
def label_value(value: str) -> tuple[str, ...]:
    """A label value: empty or at most 63 bytes of the label alphabet."""
    faults = _too_long(value, 63)
    if value and not _qualified_re.fullmatch(value):
        text = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
        text += "and must start and end with an alphanumeric character"
        faults.append(_pattern(text, f"({_QUALIFIED})?", "MyValue", "my_value", "12345"))
    return tuple(faults)


@lru_cache(_CACHE)
def config_key(value: str) -> tuple[str, ...]:
    """A key of a ConfigMap or Secret: it becomes a file name."""
    faults = _too_long(value, 253)
    if not _config_key_re.fullmatch(value):
        text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        faults.append(_pattern(text, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        faults.append(f"must not be '{value}'")
    elif value.startswith(".."):
        faults.append("must not start with '..'")
    return tuple(faults)


def env_name(value: str) -> tuple[str, ...]:
    """An environment variable's name: printable ASCII without '='."""
    if not value:
        return ("environment variable name must be non-empty",)
    if _printable_re.fullmatch(value):
        return ()
    return ("a valid environment variable name must consist only of printable ASCII characters other than '='",)


def http_header(value: str) -> tuple[str, ...]:
    """An HTTP header's name."""
    if _header_re.fullmatch(value):
        return ()
    text = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return (_pattern(text, _HEADER, "X-Header-Name"),)


def port_name(value: str) -> tuple[str, ...]:
    """An IANA service name: up to 15 characters with at least one letter."""
    faults = _too_long(value, 15)
    if not _port_charset_re.fullmatch(value):
        faults.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not any("a" <= char <= "z" for char in value):
        faults.append("must contain at least one letter (a-z)")
    if "--" in value:
        faults.append("must not contain consecutive hyphens")
    if value and "-" in (value[0], value[-1]):
        faults.append("must not begin or end with a hyphen")
    return tuple(faults)


def port_number(value: int) -> tuple[str, ...]:
    """1 to 65535."""
    return () if 1 <= value <= 65535 else ("must be between 1 and 65535, inclusive",)


def percent(value: str) -> tuple[str, ...]:
    """Digits and a percent sign."""
    if _percent_re.fullmatch(value):
        return ()
    text = "a valid percent string must be a numeric string followed by an ending '%'"
    return (_pattern(text, _PERCENT, "1%", "93%"),)


def unix_id(value: int) -> tuple[str, ...]:
    """A user or group id."""
    return () if 0 <= value <= 0xFFFFFFFF else ("must be between 0 and 4294967295, inclusive",)


def without_dash(prefix: str) -> str:
    """A generateName as it is checked: a trailing dash is fine, since more follows."""
    return prefix[:-2] + "a" if len(prefix) > 1 and prefix.endswith("-") else prefix
