"""The PKI folder: subjects, names, lifetimes, files. And kubeconfigs that carry it."""

import base64
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kube import kubeconfig, pki
from kube.client import tls
from kube.kubeconfig import KubeconfigError, RestConfig


def cluster(folder: Path, **changes: Any) -> pki.Authority:
    settings = {"service_ip": "10.96.0.1", "zone": "cluster.local", "advertise": "192.168.77.2"}
    return pki.ensure_cluster(folder, **{**settings, **changes})


def der(file: Path) -> bytes:
    return pki.load_cert(file).public_bytes(serialization.Encoding.DER)


def test_a_cluster_has_every_file_private_where_it_must_be(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    cluster(folder)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    pairs = ["ca", "front-proxy-ca", "apiserver", "apiserver-kubelet-client", "front-proxy-client", "admin"]
    assert modes == {
        **{f"{name}.crt": 0o644 for name in pairs},
        **{f"{name}.key": 0o600 for name in pairs},
        "sa.key": 0o600,
        "sa.pub": 0o644,
    }
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    cluster(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    cluster(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_the_api_server_answers_to_its_names(tmp_path: Path) -> None:
    cluster(tmp_path, extra_sans=["api.example.org", "10.0.0.9"])
    names = pki.load_cert(tmp_path / "apiserver.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert {
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        "api.example.org",
    } <= set(names.value.get_values_for_type(x509.DNSName))
    addresses = [str(each) for each in names.value.get_values_for_type(x509.IPAddress)]
    assert addresses == ["10.96.0.1", "192.168.77.2", "127.0.0.1", "10.0.0.9"]


def test_a_new_address_renews_the_api_servers_certificate_only(tmp_path: Path) -> None:
    cluster(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    cluster(tmp_path, advertise="192.168.77.3")
    changed = {file.name for file in tmp_path.iterdir() if file.read_bytes() != before[file.name]}
    assert changed == {"apiserver.crt", "apiserver.key"}


def test_a_certificate_near_its_end_or_of_another_ca_is_renewed(tmp_path: Path) -> None:
    ca = cluster(tmp_path)
    short = pki.issue(ca, cn="kubernetes-admin", organizations=["system:masters"], days=89)
    pki.write_pair(tmp_path, "admin", short)
    foreign = pki.issue(pki.ensure_ca(tmp_path / "other"), cn="kube-apiserver", usages=[pki.SERVER])
    pki.write_pair(tmp_path, "apiserver", foreign)
    cluster(tmp_path)
    assert (tmp_path / "admin.crt").read_bytes() != short.cert_pem
    assert (tmp_path / "apiserver.crt").read_bytes() != foreign.cert_pem


def test_subjects_are_kubernetes_users_and_groups(tmp_path: Path) -> None:
    ca = cluster(tmp_path)
    assert pki.subject(der(tmp_path / "admin.crt")) == ("kubernetes-admin", ("system:masters",))
    assert pki.subject(der(tmp_path / "apiserver-kubelet-client.crt"))[0] == "kube-apiserver-kubelet-client"
    pki.write_pair(tmp_path, "node", pki.node_client(ca, name="n1"))
    assert pki.subject(der(tmp_path / "node.crt")) == ("system:node:n1", ("system:nodes",))
    with pytest.raises(pki.PkiError, match="peer certificate"):
        pki.subject(b"nonsense")


def test_lifetimes_keys_and_usages_are_those_of_the_contract(tmp_path: Path) -> None:
    ca = cluster(tmp_path)
    now = datetime.now(UTC)
    leaf = x509.load_pem_x509_certificate(pki.node_serving(ca, name="n1", ips=["192.168.77.11"]).cert_pem)
    for cert, days in ((ca.cert, 3650), (leaf, 365)):
        assert abs(cert.not_valid_after_utc - now - timedelta(days=days)) < timedelta(minutes=1)
        assert timedelta(minutes=4) < now - cert.not_valid_before_utc < timedelta(minutes=6)
        key = cert.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]
    leaf.verify_directly_issued_by(ca.cert)


def test_half_a_ca_is_refused_rather_than_replaced(tmp_path: Path) -> None:
    pki.ensure_ca(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(pki.PkiError, match=r"ca\.key: missing, although its other half is there"):
        pki.ensure_ca(tmp_path)


def test_a_key_of_another_ca_is_refused(tmp_path: Path) -> None:
    pki.ensure_ca(tmp_path)
    pki.ensure_ca(tmp_path, "other")
    os.replace(tmp_path / "other.key", tmp_path / "ca.key")
    with pytest.raises(pki.PkiError, match=r"does not belong to ca\.crt"):
        pki.load_ca(tmp_path)


def test_garbage_in_a_certificate_file_is_named(tmp_path: Path) -> None:
    pki.ensure_ca(tmp_path)
    (tmp_path / "ca.crt").write_text("garbage")
    with pytest.raises(pki.PkiError, match=r"ca\.crt: not a certificate"):
        pki.ensure_ca(tmp_path)


def test_keys_do_not_show_in_representations(tmp_path: Path) -> None:
    ca = pki.ensure_ca(tmp_path)
    pair = pki.node_client(ca, name="n1")
    config = RestConfig(server="https://x", key_data=pair.key_pem, token="sesame")
    for shown in (repr(pair), repr(ca), repr(config)):
        assert "PRIVATE" not in shown
        assert "sesame" not in shown


def test_a_written_kubeconfig_is_private_and_reads_back(tmp_path: Path) -> None:
    ca = cluster(tmp_path)
    file = tmp_path / "kubeconfig"
    cert, key = (tmp_path / "admin.crt").read_bytes(), (tmp_path / "admin.key").read_bytes()
    kubeconfig.write(
        file,
        server="https://127.0.0.1:6443",
        user="kubernetes-admin",
        ca_data=ca.cert_pem,
        cert_data=cert,
        key_data=key,
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    loaded = kubeconfig.load(file)
    assert loaded == RestConfig(
        server="https://127.0.0.1:6443", ca_data=ca.cert_pem, cert_data=cert, key_data=key, namespace="default"
    )
    assert isinstance(tls.context(loaded), ssl.SSLContext)


def document(**changes: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "cluster": {"server": "https://api:6443/", "certificate-authority": "ca.crt"},
        "user": {"client-certificate": "/abs/me.pem", "client-key": "me.key", "tokenFile": "token"},
        **changes,
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": parts.get("current", "main"),
        "clusters": [{"name": "c", "cluster": parts["cluster"]}],
        "users": [{"name": "u", "user": parts["user"]}],
        "contexts": [
            {"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "dev"}},
            {"name": "second", "context": {"cluster": "c", "user": "nobody"}},
        ],
    }


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "config"
    file.write_text(content if isinstance(content, str) else yaml.dump(content))
    return file


def test_files_named_in_a_kubeconfig_are_relative_to_it(tmp_path: Path) -> None:
    loaded = kubeconfig.load(written(tmp_path, document()))
    assert loaded == RestConfig(
        server="https://api:6443",
        ca_file=tmp_path / "ca.crt",
        cert_file=Path("/abs/me.pem"),
        key_file=tmp_path / "me.key",
        token_file=tmp_path / "token",
        namespace="dev",
    )


CLUSTER = {"server": "https://api:6443"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (document(current=""), "current-context: not set"),
        (document(current="third"), "contexts: no context named 'third'"),
        (document(current="second"), "users: no user named 'nobody'"),
        (document(cluster={"server": "api:6443"}), "cluster.server: want an https:// address, found 'api:6443'"),
        (document(user={"exec": {"command": "aws"}}), "user.exec: not supported; use a client certificate or a token"),
        (document(user={"username": "a", "password": "b"}), "user.username: not supported"),
        (document(cluster={**CLUSTER, "insecure-skip-tls-verify": True}), "insecure-skip-tls-verify: not supported"),
        (document(cluster={**CLUSTER, "certificate-authority-data": "*"}), "certificate-authority-data: not base64"),
        ({"kind": "Pod"}, "kind: want Config"),
        ("a: [", "not YAML"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        kubeconfig.load(written(tmp_path, content))
    assert str(caught.value).startswith(f"{tmp_path}/config: ")
    assert reason in str(caught.value)


def test_a_missing_kubeconfig_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="gone: No such file"):
        kubeconfig.load(tmp_path / "gone")


def test_a_pod_finds_its_server_by_its_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeconfigError, match="not in a pod"):
        kubeconfig.in_cluster(tmp_path)
    (tmp_path / "token").write_text("t")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert kubeconfig.in_cluster(tmp_path).server == "https://[fd00::1]:443"


def test_embedded_data_is_what_kubectl_reads(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    kubeconfig.write(file, server="https://x:1", user="me", ca_data=b"CA", token="t", namespace="ns")
    content = yaml.safe_load(file.read_text())
    assert base64.b64decode(content["clusters"][0]["cluster"]["certificate-authority-data"]) == b"CA"
    assert content["users"] == [{"name": "me", "user": {"token": "t"}}]
    assert content["current-context"] == content["contexts"][0]["name"] == "me@kubernetes"
    assert content["contexts"][0]["context"] == {"cluster": "kubernetes", "user": "me", "namespace": "ns"}
