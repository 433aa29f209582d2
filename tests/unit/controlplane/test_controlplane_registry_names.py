# ruff: noqa: E501 (a table of cases reads best with one case on a line)
"""Names, labels and keys: legal text passes, and the fault of any other is said in the words people search for."""

import pytest

from controlplane.apiserver.registry import addresses, names

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
KEY = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


@pytest.mark.parametrize(
    ("rule", "text", "faults"),
    [
        (names.dns_label, "web-1", []),
        (names.dns_label, "Web", [LABEL]),
        (names.dns_label, "-web", [LABEL]),
        (names.dns_label, "", [LABEL]),
        (names.dns_label, "a.b", ["must not contain dots"]),
        (names.dns_label, "a" * 64, ["must be no more than 63 bytes"]),
        (names.dns_subdomain, "a.b-c.d1", []),
        (names.dns_subdomain, "a..b", [SUBDOMAIN]),
        (names.dns_subdomain, "a_b", [SUBDOMAIN]),
        (names.dns_subdomain, "a" * 254, ["must be no more than 253 bytes"]),
        (names.qualified_name, "app.kubernetes.io/name", []),
        (names.qualified_name, "MyName", []),
        (names.qualified_name, "", ["name part must be non-empty", f"name part {QUALIFIED}"]),
        (names.qualified_name, "/x", ["prefix part must be non-empty"]),
        (names.qualified_name, "Bad_/x", [f"prefix part {SUBDOMAIN}"]),
        (names.qualified_name, "a" * 64, ["name part must be no more than 63 bytes"]),
        (
            names.qualified_name,
            "a/b/c",
            [f"a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"],
        ),
        (names.label_value, "", []),
        (names.label_value, "v1.2_x", []),
        (names.label_value, "no spaces", [VALUE]),
        (names.label_value, "a" * 64, ["must be no more than 63 bytes"]),
        (names.config_key, "ca.crt", []),
        (names.config_key, "a b", [KEY]),
        (names.config_key, "", [KEY]),
        (names.config_key, ".", ["must not be '.'"]),
        (names.config_key, "..", ["must not be '..'"]),
        (names.config_key, "..data", ["must not start with '..'"]),
        (names.env_name, "any thing but equals", []),
        (names.env_name, "A=B", ["a valid environment variable name must consist only of printable ASCII characters other than '='"]),
        (names.port_name, "http", []),
        (names.port_name, "8080", ["must contain at least one letter (a-z)"]),
        (names.port_name, "-a--b", ["must not contain consecutive hyphens", "must not begin or end with a hyphen"]),
        (names.port_name, "abcdefghijklmnop", ["must be no more than 15 bytes"]),
        (names.port_name, "A", ["must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)", "must contain at least one letter (a-z)"]),
        (names.percent, "25%", []),
        (names.percent, "x%", ["a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"]),
    ],
)  # fmt: skip
def test_a_name_is_legal_or_says_why_not(rule: names.NameRule, text: str, faults: list[str]) -> None:
    assert list(rule(text)) == faults


@pytest.mark.parametrize(
    ("given", "checked"), [("web-", "wea"), ("web", "web"), ("-", "-"), ("a--", "aa"), ("a-", "a")]
)  # fmt: skip
def test_a_generate_name_may_end_in_a_dash(given: str, checked: str) -> None:
    assert names.without_dash(given) == (checked if len(given) > 2 or given in ("-",) else "a")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.1", ""),
        ("2001:db8::1", ""),
        ("10.0.0.256", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("fe80::1%eth0", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        ("010.0.0.1", "must not have leading 0s"),
        ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
    ],
)  # fmt: skip
def test_an_address_is_legal_or_says_why_not(text: str, fault: str) -> None:
    assert [error.message for error in addresses.ip("x", text)] == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.0/8", ""),
        ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
        ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
        ("10.0.0.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
    ],
)  # fmt: skip
def test_a_block_is_legal_or_says_why_not(text: str, fault: str) -> None:
    assert [error.message for error in addresses.cidr("x", text)] == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("192.168.1.1", ""),
        ("0.0.0.0", "may not be unspecified (0.0.0.0)"),
        ("127.0.0.1", "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        ("169.254.169.254", "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        ("224.0.0.5", "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
        ("x", "must be a valid IP address"),
    ],
)  # fmt: skip
def test_traffic_is_not_sent_to_special_addresses(text: str, fault: str) -> None:
    assert [error.message for error in addresses.ordinary("x", text)] == ([fault] if fault else [])
