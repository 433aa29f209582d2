"""DNSConfiguration and Corefiles: what is accepted, and how the rest is refused."""

from pathlib import Path

import msgspec
import pytest

from kube.runtime.config import ConfigError
from proxy.dns import config, corefile, export, names, wire
from proxy.dns.views import Service
from proxy.dns.zone import Zone

KUBEADM = """\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes example.test in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
"""


def test_the_usual_corefile_is_understood() -> None:
    assert corefile.parse(KUBEADM, source="Corefile") == {
        "lameduckSeconds": 5.0,
        "clusterDomain": "example.test",
        "pods": "insecure",
        "ttl": 30,
        "forward": ["/etc/resolv.conf"],
        "maxConcurrent": 1000,
        "cacheSeconds": 30,
        "negativeCacheSeconds": 30,
        "serveStaleSeconds": 0,
        "prefetch": 0,
        "reloadSeconds": 30.0,
    }


def test_stub_domains_hosts_rewrites_and_search_paths_are_understood() -> None:
    text = """
    . { # comment
        log
        hosts /etc/more.hosts {
            192.0.2.5 db.example.com db
            ttl 60
            fallthrough
        }
        rewrite name exact old.org new.org
        rewrite stop name regex (.*)\\.x\\.$ {1}.y. answer auto
        autopath @kubernetes
        kubernetes {
            pods verified
        }
        forward corp 192.0.2.53
        forward . 192.0.2.1 192.0.2.2:5353 {
            policy sequential
        }
        cache {
            serve_stale 1h
            prefetch 5 1m 10%
        }
    }
    inner.corp:53 other.corp {
        errors
        forward . 192.0.2.54
    }
    """
    found = corefile.parse(text, source="Corefile")
    assert found["hosts"] == ["192.0.2.5 db.example.com db"]
    assert (found["hostsFile"], found["hostsTTL"]) == ("/etc/more.hosts", 60)
    assert found["rewrites"] == ["exact old.org new.org", "regex (.*)\\.x\\.$ {1}.y."]
    assert found["stubDomains"] == {
        "corp": ["192.0.2.53"],
        "inner.corp": ["192.0.2.54"],
        "other.corp": ["192.0.2.54"],
    }
    assert (found["forward"], found["forwardPolicy"]) == (["192.0.2.1", "192.0.2.2:5353"], "sequential")
    assert (found["serveStaleSeconds"], found["prefetch"]) == (3600, 5)
    assert found["autopath"] is found["logQueries"] is True


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        (". {\n errors\n dnssec\n}", 3, "dnssec"),
        (". {\n kubernetes {\n  zonefile x\n }\n}", 3, "zonefile"),
        (". {\n forward . tls://192.0.2.1\n}", 2, "tls"),
        (". {\n rewrite type AAAA A\n}", 2, "type"),
        (". {\n cache {\n  keepttl\n }\n}", 3, "keepttl"),
        (". {\n health {\n  lameduck soon\n }\n}", 3, "soon"),
        (". {\n kubernetes {\n  ttl much\n }\n}", 3, "much"),
        (". {\n errors", 1, "closed"),
        (". {\n errors {\n  consolidate 5m x\n }\n}", 3, "consolidate"),
        (". {\n loadbalance weighted x\n}", 2, "weighted"),
        (". {\n forward . 192.0.2.1 {\n  max_fails 9\n }\n}", 3, "max_fails"),
        ("}", 1, "without"),
        ("example.org {\n file db.example\n}", 2, "file"),
        ("tls://. {\n errors\n}", 1, "plain DNS"),
        (". {\n forward .\n}", 2, "TO"),
    ],
)
def test_what_a_corefile_asks_for_in_vain_is_named_with_its_line(text: str, line: int, word: str) -> None:
    with pytest.raises(corefile.CorefileError, match=rf"Corefile:{line}: .*{word}"):
        corefile.parse(text, source="Corefile")


def written(folder: Path, extra: str) -> Path:
    head = "apiVersion: nodeagent/v1\nkind: DNSConfiguration\nnodeName: n\nkubeconfig: /k\n"
    (folder / "dns.yaml").write_text(head + extra)
    return folder


def test_a_corefile_counts_where_the_configuration_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text(KUBEADM)
    found = config.read(written(tmp_path, f"corefile: {tmp_path}/Corefile\nttl: 7\n"))
    assert (found.ttl, found.cluster_domain, found.cache_seconds) == (7, "example.test", 30)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("ttl: 4000", "ttl: 4000"),
        ("pods: some", "pods: 'some'"),
        ("forward: [nowhere]", "forward: 'nowhere'"),
        ("forward: ['192.0.2.1:0']", "forward: '192.0.2.1:0'"),
        ("stubDomains: {corp: []}", "stubDomains.corp: no server"),
        ("hosts: ['x y']", "hosts: 'x y'"),
        ("hostsFile: /nowhere/at/all", "hostsFile: /nowhere/at/all"),
        ("rewrites: [a]", "rewrites: 'a'"),
        ("forwardPolicy: best", "forwardPolicy: 'best'"),
        ("reloadSeconds: 0.1", "reloadSeconds: 0.1"),
        ("files: {bind: /x}", "files: 'bind'"),
        ("corefile: /nowhere/Corefile", "corefile: /nowhere/Corefile"),
        ("unknown: 1", "unknown field unknown"),
    ],
)
def test_a_wrong_configuration_is_refused_by_field(tmp_path: Path, extra: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.read(written(tmp_path, extra + "\n"))
    assert message in str(refused.value)


@pytest.fixture
def zone() -> Zone:
    found = Zone("cluster.local", ttl=5, serial=0)
    body = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]},
    }
    found.put("web", names.records(msgspec.convert(body, Service), (), zone="cluster.local"))
    return found


def test_the_zone_as_a_hosts_file(zone: Zone) -> None:
    assert export.hosts(zone) == "10.96.0.7 web.default.svc.cluster.local\n"


def test_the_zone_as_a_master_file_is_read_by_another_implementation(zone: Zone) -> None:
    import dns.rdatatype
    import dns.zone

    read = dns.zone.from_text(export.zone_file(zone))
    assert str(read.find_rdataset("web.default.svc", "A")[0]) == "10.96.0.7"
    assert str(read.find_rdataset("_http._tcp.web.default.svc", "SRV")[0]) == "0 100 80 web.default.svc"
    assert str(read.find_rdataset("dns-version", "TXT")[0]) == '"1.1.0"'
    assert str(read.find_rdataset("@", "SOA")[0]).startswith("ns.dns hostmaster 2 7200 1800 86400 5")


def test_the_zone_as_coredns_reads_it_from_etcd(zone: Zone) -> None:
    rows = dict(line.split("\t") for line in export.etcd(zone).splitlines())
    base = "/skydns/local/cluster/svc/default/web"
    assert rows[base + "/x1"] == '{"host":"10.96.0.7","ttl":5}'
    assert rows[base + "/_tcp/_http/x1"] == '{"host":"10.96.0.7","port":80,"weight":100,"ttl":5}'
    assert rows["/skydns/arpa/in-addr/10/96/0/7/x1"] == '{"host":"web.default.svc.cluster.local","ttl":5}'


def test_names_survive_the_way_to_the_wire_and_back() -> None:
    assert wire.decode_name(wire.encode_name("A.b.C")) == "a.b.c."
