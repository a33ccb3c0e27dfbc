"""The cluster's certificate authority, its certificates and kubeconfigs: new for each cluster, gone with it.

They are what kubeadm makes (Kubernetes, "PKI certificates and requirements"), with elliptic keys: made in
milliseconds where RSA keys take seconds, and cheaper in each of the many handshakes of a start.
"""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFE = datetime.timedelta(days=30)
# clocks differ, and a certificate of the future is refused
EARLIER = datetime.timedelta(hours=1)
ADMINISTRATORS = "system:masters"
NODES = "system:nodes"
MODE = 0o600
PARTS = ("controller-manager", "scheduler")


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Issues the cluster's certificates.

    Attributes:
        certificate: its own, PEM.
    """

    def __init__(self, name: str = "kubernetes") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name, "")
        usage = x509.KeyUsage(
            digital_signature=True,
            key_encipherment=False,
            content_commitment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = own.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str,
        group: str = "",
        *,
        names: Sequence[str] = (),
        addresses: Iterable[IPv4Address] = (),
    ) -> Pair:
        """A certificate for a server (with `names` or `addresses`) or a client (without).

        Args:
            name: the client's user name, to Kubernetes.
            group: the group that it is in.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        others = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
        use = ExtendedKeyUsageOID.SERVER_AUTH if others else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            self._builder(_name(name, group), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if others:
            builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))

    def kubeconfig(self, server: str, client: Pair, user: str) -> str:
        """A kubeconfig with all that it needs in itself.

        Args:
            server: the API's URL.
            user: a name for the entry.
        """
        cluster = {"server": server, "certificate-authority-data": _base64(self.certificate)}
        keys = {
            "client-certificate-data": _base64(client.certificate),
            "client-key-data": _base64(client.key),
        }
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "labproof-box", "cluster": cluster}],
            "users": [{"name": user, "user": keys}],
            "contexts": [
                {"name": "labproof-box", "context": {"cluster": "labproof-box", "user": user}},
            ],
            "current-context": "labproof-box",
        }
        return f"{json.dumps(document, indent=1)}\n"

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLIER)
            .not_valid_after(now + LIFE)
        )


def write_node(folder: Path, authority: Authority, node: str, address: IPv4Address, server: str) -> None:
    """Writes what a node's kubelet needs, as the node finds it in its /etc/kubernetes."""
    keys = folder / "pki"
    keys.mkdir(parents=True)
    kubelet = authority.issue(f"system:node:{node}", NODES)
    serving = authority.issue(node, names=[node], addresses=[address])
    private(keys / "ca.crt", authority.certificate)
    private(keys / "kubelet.crt", serving.certificate)
    private(keys / "kubelet.key", serving.key)
    private(folder / "kubelet.conf", authority.kubeconfig(server, kubelet, f"system:node:{node}"))


def write_control_plane(
    folder: Path, authority: Authority, node: str, addresses: Sequence[IPv4Address], server: str
) -> None:
    """Writes what the control plane's parts need, beside what :func:`write_node` wrote.

    Args:
        addresses: those that the API's certificate is for.
    """
    keys = folder / "pki"
    service = "kubernetes.default.svc.cluster.local"
    names = [node, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", service]
    own = IPv4Address("127.0.0.1")
    proxies = Authority("front-proxy-ca")
    pairs = {
        "apiserver": authority.issue("kube-apiserver", names=names, addresses=[own, *addresses]),
        "apiserver-kubelet-client": authority.issue("kube-apiserver-kubelet-client", ADMINISTRATORS),
        "front-proxy-client": proxies.issue("front-proxy-client"),
        **{part: authority.issue(f"kube-{part}", names=["localhost"], addresses=[own]) for part in PARTS},
    }
    private(keys / "front-proxy-ca.crt", proxies.certificate)
    for name, pair in pairs.items():
        private(keys / f"{name}.crt", pair.certificate)
        private(keys / f"{name}.key", pair.key)
    accounts = ec.generate_private_key(ec.SECP256R1())
    private(keys / "sa.key", _pem(accounts))
    public = accounts.public_key()
    encoded = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private(keys / "sa.pub", encoded)
    for part in PARTS:
        user = f"system:kube-{part}"
        private(folder / f"{part}.conf", authority.kubeconfig(server, authority.issue(user), user))


def private(file: Path, content: str | bytes) -> None:
    """Writes a file that its owner alone can read."""
    file.unlink(missing_ok=True)
    file.touch(mode=MODE)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def _name(name: str, group: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        # the form that every reader of Kubernetes 1.20 knows
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
