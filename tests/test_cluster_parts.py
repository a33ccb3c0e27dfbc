"""What the embedded lab's cluster is made of, as far as it needs no cluster: keys, cgroups, images, the plug-in's files."""

from __future__ import annotations

import importlib.util
import json
import stat
import subprocess
import tarfile
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from cryptography import x509

from provision.box import cluster, cluster_cgroups, cluster_images, cluster_keys, cluster_nodes, cluster_start
from provision.box.cluster_api import Api, ApiError
from provision.box.cluster_build import Built
from provision.box.namespaces import BoxError
from tests.cluster_tls import HERE, serving

MASTER = IPv4Address("12.7.5.47")


def verified(
    authority: bytes, certificate: bytes, folder: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    (folder / "ca").write_bytes(authority)
    (folder / "leaf").write_bytes(certificate)
    argv = ["openssl", "verify", "-x509_strict", *more, "-CAfile", str(folder / "ca"), str(folder / "leaf")]
    return subprocess.run(argv, capture_output=True, text=True)


class TestKeys:
    def test_certificates_are_taken_for_what_they_are_issued_for_alone(self, tmp_path: Path) -> None:
        authority = cluster_keys.Authority()
        server = authority.issue("kube-apiserver", names=["master"], addresses=[MASTER]).certificate
        client = authority.issue("admin", "system:masters").certificate
        served = ("-purpose", "sslserver")
        assert (
            verified(authority.certificate, server, tmp_path, *served, "-verify_ip", str(MASTER)).returncode
            == 0
        )
        assert verified(
            authority.certificate, server, tmp_path, *served, "-verify_ip", "12.7.5.48"
        ).returncode
        assert verified(authority.certificate, client, tmp_path, "-purpose", "sslclient").returncode == 0
        assert verified(authority.certificate, client, tmp_path, *served).returncode
        assert verified(cluster_keys.Authority().certificate, client, tmp_path).returncode

    def test_a_client_is_its_name_and_group(self) -> None:
        pair = cluster_keys.Authority().issue("system:node:worker1", "system:nodes")
        subject = x509.load_pem_x509_certificate(pair.certificate).subject.rfc4514_string()
        assert subject == "CN=system:node:worker1,O=system:nodes"

    def test_what_a_cluster_is_given_is_its_owners_alone(self, tmp_path: Path) -> None:
        places = [
            cluster_nodes.Place(name, IPv4Interface(f"{address}/24"), tmp_path / name)
            for name, address in cluster.ADDRESSES.items()
        ]
        cluster_start.furnish(tmp_path, places, IPv4Network("172.16.0.0/16"), IPv4Network("10.96.0.0/12"))
        secret = [*tmp_path.rglob("*.key"), *tmp_path.rglob("*.conf")]
        assert len(secret) >= 10
        assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
        config = yaml.safe_load((tmp_path / "admin.conf").read_text())
        assert config["clusters"][0]["cluster"]["server"] == "https://12.7.5.47:6443"
        assert not (tmp_path / "worker1/etc/kubernetes/pki/sa.key").exists()

    def test_every_template_is_filled_in(self, tmp_path: Path) -> None:
        place = cluster_nodes.Place("master", IPv4Interface("12.7.5.47/24"), tmp_path)
        put_in = cluster_start.values(place, IPv4Network("172.16.0.0/16"), IPv4Network("10.96.0.0/12"))
        names = ["addons.yaml", "plugin.yaml", "kubelet.yaml"]
        names += [f"static/{part}.yaml" for part in (*cluster_start.FIRST, *cluster_start.THEN)]
        for name in names:
            documents = list(yaml.safe_load_all(cluster_start.render(name, put_in)))
            assert all(document["kind"] for document in documents), name


class TestCgroups:
    MOUNTS = (
        "30 25 0:26 / {0}/memory rw - cgroup cgroup rw,memory\n"
        "31 25 0:27 / {0}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "32 25 0:28 / {0}/systemd rw - cgroup cgroup rw,xattr,name=systemd\n"
        "33 25 0:29 / {0}/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
    )

    def proc(self, folder: Path, mounts: str, groups: str) -> Path:
        proc = folder / "proc"
        (proc / "self").mkdir(parents=True)
        (proc / "self/mountinfo").write_text(mounts)
        (proc / "self/cgroup").write_text(groups)
        return proc

    def test_version_1_is_taken_where_it_has_the_controllers(self, tmp_path: Path) -> None:
        (tmp_path / "memory/some/slice").mkdir(parents=True)
        groups = "9:name=systemd:/\n4:memory:/some/slice\n2:cpu,cpuacct:/not/here\n0::/\n"
        found = cluster_cgroups.hierarchies(proc=self.proc(tmp_path, self.MOUNTS.format(tmp_path), groups))
        assert [(each.argument, each.parent) for each in found] == [
            ("systemd=none,name=systemd", tmp_path / "systemd"),
            ("memory=memory", tmp_path / "memory/some/slice"),
            ("cpu,cpuacct=cpu,cpuacct", tmp_path / "cpu,cpuacct"),
        ]

    def test_version_2_is_taken_where_it_has_them(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        mounts = f"33 25 0:29 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
        found = cluster_cgroups.hierarchies(proc=self.proc(tmp_path, mounts, "0::/user.slice\n"))
        assert [(each.argument, each.parent) for each in found] == [("2", tmp_path)]

    def test_a_machine_without_them_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup.controllers").write_text("pids\n")
        mounts = f"33 25 0:29 / {tmp_path} rw - cgroup2 cgroup2 rw\n"
        with pytest.raises(BoxError, match="neither version 1 nor version 2"):
            cluster_cgroups.hierarchies(proc=self.proc(tmp_path, mounts, "0::/\n"))

    def test_two_clusters_have_groups_of_their_own(self) -> None:
        assert cluster_cgroups.name_of(Path("/a")) != cluster_cgroups.name_of(Path("/b"))


class TestImages:
    def test_an_archive_says_which_layers_each_image_has(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_bytes(b"#!/bin/true\n")
        images = [
            cluster_images.Image("one:1", ["/bin/one"], {"bin/one": program}, base=False),
            cluster_images.Image("two:1", ["/two"], {"two": program}, base=False),
        ]
        cluster_images.archive(images, tmp_path / "images.tar", lambda _: None)
        with tarfile.open(tmp_path / "images.tar") as tar:
            read = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        index = json.loads(read["manifest.json"])
        assert [entry["RepoTags"] for entry in index] == [["one:1"], ["two:1"]]
        for entry in index:
            config = json.loads(read[entry["Config"]])
            assert config["rootfs"]["diff_ids"] == [f"sha256:{layer[:-4]}" for layer in entry["Layers"]]
        layer = tmp_path / "layer.tar"
        layer.write_bytes(read[index[0]["Layers"][0]])
        with tarfile.open(layer) as tar:
            assert tar.getmember("bin/one").mode == 0o755
            assert tar.getmember("tmp").mode == 0o1777

    def test_every_image_that_a_manifest_names_is_made(self, tmp_path: Path) -> None:
        made = {image.name for image in cluster_images.recipes(Built(tmp_path, tmp_path))}
        place = cluster_nodes.Place("master", IPv4Interface("12.7.5.47/24"), tmp_path)
        put_in = cluster_start.values(place, IPv4Network("172.16.0.0/16"), IPv4Network("10.96.0.0/12"))
        wanted = {value for value in put_in.values() if value.startswith("labproof/")}
        assert wanted <= made


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("NODE", "worker1")
    spec = importlib.util.spec_from_file_location("plugin", cluster_nodes.SCRIPTS / "plugin.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.CONFIGURATION = tmp_path / "10-labproof.conflist"
    return module


def node(name: str, network: str | None, address: str) -> dict[str, object]:
    spec = {"podCIDR": network} if network else {}
    addresses = [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]
    return {"metadata": {"name": name}, "spec": spec, "status": {"addresses": addresses}}


class TestPlugin:
    def test_it_writes_its_nodes_configuration_and_routes_to_the_others(
        self, plugin: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = [
            node("worker1", None, "12.7.5.118"),
            node("worker2", "172.16.2.0/24", "12.7.5.90"),
            node("worker1", "172.16.1.0/24", "12.7.5.118"),
            node("worker2", "172.16.2.0/24", "12.7.5.90"),
            node("worker2", "172.16.5.0/24", "12.7.5.90"),
        ]
        routes: list[list[str]] = []
        monkeypatch.setattr(plugin, "changes", lambda: iter(seen))
        monkeypatch.setattr(plugin.subprocess, "run", lambda argv, check: routes.append(argv))
        plugin.follow({})
        written = json.loads(plugin.CONFIGURATION.read_text())
        assert written["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "172.16.1.0/24"}]]
        assert [route[3:] for route in routes] == [
            ["172.16.2.0/24", "via", "12.7.5.90"],
            ["172.16.5.0/24", "via", "12.7.5.90"],
        ]

    def test_its_end_takes_the_configuration_away(self, plugin: ModuleType) -> None:
        plugin.CONFIGURATION.write_text("{}")
        with pytest.raises(SystemExit):
            plugin.ended()
        assert not plugin.CONFIGURATION.exists()


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/readyz"
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(b"ok" if known else b'{"message": "forbidden"}')

    def log_message(self, *_: object) -> None:
        pass


class TestApi:
    def test_it_is_asked_as_the_administrator_and_says_what_came_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        authority = cluster_keys.Authority()
        pair = authority.issue("admin")
        (tmp_path / "admin.crt").write_bytes(pair.certificate)
        (tmp_path / "admin.key").write_bytes(pair.key)
        monkeypatch.setattr("provision.box.cluster_api.enter_network", lambda _: None)
        with serving(authority, Answering, tmp_path) as port:
            monkeypatch.setattr("provision.box.cluster_api.PORT", port)
            with Api(Path("/proc/self/ns/net"), HERE, tmp_path) as api:
                assert api.get("/readyz") == "ok"
                with pytest.raises(ApiError, match=r"answered 403.*forbidden"):
                    api.get("/api/v1/nodes")
        with (
            Api(Path("/proc/self/ns/net"), HERE, tmp_path) as api,
            pytest.raises(ApiError, match="does not answer"),
        ):
            api.get("/readyz")


def test_the_scripts_are_shell() -> None:
    scripts = sorted(cluster_nodes.SCRIPTS.glob("*.sh"))
    assert len(scripts) >= 4
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
