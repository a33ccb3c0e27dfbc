"""A host over SSH: one connection, long-lived shells as channels on it.

Of the user's own SSH configuration nothing is used: no agent, no keys, no known_hosts.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import paramiko

from probes.ending import pause
from probes.pool import PooledHost
from probes.shell import ChannelClosed, HostError, Shell

# What goes wrong is told by our own errors; paramiko would print a traceback per refused login as well.
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

_CHUNK = 256 * 1024
_SLICE = 0.05
_PAUSE = 0.25
_JUST_NOW = 1.0
_ANSWER = 10.0
_BANNER = 15.0
_LOGIN = 30.0
_SESSION_TRIES = 3
_KEEPALIVE = 10
_UNACKNOWLEDGED_MS = 20_000


class SshHost(PooledHost):
    """A host reached by SSH.

    Args:
        name: as it stands in the evidence.
        address: where its SSH server listens.
        user: login name.
        key: private key, or a file that holds one.
        port: of the SSH server.
        via: a host to go through (a ``direct-tcpip`` channel on its connection).
        password: tried when there is no key, or the key is refused.
        connect_timeout: seconds for the TCP connection.
        host_key: expected public host key, ``ssh-ed25519 AAAA...``; None accepts the first one seen, and no
            other later.
        host_keys: asked once, before the first login: the keys that the machine says are its own, by another way
            than this connection. One of them must be its; none means that it says nothing: the first one seen is
            accepted. What it raises (:class:`HostError`) puts off the login.
    """

    def __init__(
        self,
        name: str,
        address: str,
        user: str,
        key: Path | paramiko.PKey | None = None,
        port: int = 22,
        *,
        via: SshHost | None = None,
        password: str | None = None,
        connect_timeout: float = 10.0,
        host_key: str | None = None,
        host_keys: Callable[[], Collection[str]] | None = None,
    ) -> None:
        super().__init__(name)
        if key is None and password is None:
            raise ValueError(f"SSH host {name!r}: neither key nor password")
        self.address = str(address)
        self.user = user
        self.port = port
        self.public_host_key = _normal(name, host_key) if host_key else None
        self.host_key_known_by = "given" if host_key else ""
        self._host_keys = host_keys
        self._key = _load(name, key) if isinstance(key, str | Path) else key
        self._password = password
        self._via = via
        self._connect_timeout = connect_timeout
        self._transport: paramiko.Transport | None = None
        self._connecting = threading.Lock()
        self._failures = 0
        self._failed_at = -_JUST_NOW
        self._reason = ""

    def __str__(self) -> str:
        way = f" via {self._via.name}" if self._via else ""
        return f"{self.user}@{self.address} port {self.port}{way}"

    def wait_ready(self, within: float) -> None:
        """Polls until a login works and a command runs.

        Everything that can be wrong with a host that is still booting is tried again until the deadline, a
        refused login too: a server may listen before its key has arrived.

        Args:
            within: seconds.

        Raises:
            HostError: it did not, with the last reason.
        """
        began = time.monotonic()
        deadline = began + within
        reason = "not tried"
        tries = 0
        while tries == 0 or time.monotonic() < deadline:
            tries += 1
            left = max(2.0, deadline - time.monotonic())
            try:
                with self._connecting:
                    if self._transport is None or not self._transport.is_active():
                        self._connect(tcp=2.0, login=min(_LOGIN, max(5.0, left)))
                self.run("true", timeout=min(10.0, left))
            except HostError as error:
                reason = str(error)
                self.disconnect()
                pause(min(_PAUSE, deadline - time.monotonic()), f"{self.name}: waiting for a login")
            else:
                return
        raise HostError(
            f"{self.name}: no login as {self} within {within:g} s ({tries} tries); last: {reason}"
        )

    def disconnect(self) -> None:
        """Gives up the connection; the next command makes a new one."""
        with self._connecting:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()
        self._forget_idle()

    def close(self) -> None:
        super().close()
        self.disconnect()

    def transport(self) -> paramiko.Transport:
        """The connection, made when there is none.

        Raises:
            HostError: with the reason.
        """
        failures = self._failures
        with self._connecting:
            if self._transport is not None and self._transport.is_active():
                return self._transport
            if self._failures != failures or time.monotonic() - self._failed_at < _JUST_NOW:
                # Somebody else has just tried, while this caller waited or a moment before: a dead host costs one
                # time-out, not one for each of those who ask.
                raise HostError(self._reason)
            return self._connect(self._connect_timeout, _LOGIN)

    def _open(self, within: float = _ANSWER) -> Shell:
        transport = self.transport()
        try:
            channel = session(transport, "exec /bin/sh", within)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise HostError(f"{self.name}: no shell on {self}: {_said(error)}") from None
        return Shell(_SshChannel(channel), answers_within=_ANSWER)

    def _suspect(self) -> None:
        self.disconnect()

    def _connect(self, tcp: float, login: float) -> paramiko.Transport:
        try:
            self._transport = self._logged_in(tcp, login)
        except HostError as error:
            self._failures += 1
            self._failed_at = time.monotonic()
            self._reason = str(error)
            raise
        self._failed_at = -_JUST_NOW
        self._forget_idle()
        return self._transport

    def _logged_in(self, tcp: float, login: float) -> paramiko.Transport:
        if self._closed:
            raise HostError(f"{self.name}: closed")
        stream = self._socket(tcp)
        try:
            transport = paramiko.Transport(stream)
        except (paramiko.SSHException, OSError) as error:
            stream.close()
            raise HostError(f"{self.name}: {self}: {_said(error)}") from None
        transport.banner_timeout = min(_BANNER, login)
        transport.handshake_timeout = transport.auth_timeout = login
        try:
            expected = self._expected_host_keys()
            if expected:
                options = transport.get_security_options()
                wanted = {kind for key in expected for kind in _algorithms(key)}
                options.key_types = [kind for kind in options.key_types if kind in wanted]
            transport.start_client(timeout=login)
            if not transport.initial_kex_done:
                raise paramiko.SSHException(f"no key exchange within {login:g} s")
            self._check_host_key(transport, expected)
            self._log_in(transport)
            transport.set_keepalive(_KEEPALIVE)
        except HostError:
            transport.close()
            raise
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            transport.close()
            raise HostError(f"{self.name}: {self}: {_said(error)}") from None
        return transport

    def _socket(self, timeout: float) -> socket.socket | paramiko.Channel:
        if self._via is not None:
            try:
                return self._via.transport().open_channel(
                    "direct-tcpip", (self.address, self.port), ("127.0.0.1", 0), timeout=max(timeout, 5.0)
                )
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise HostError(f"{self.name}: {self}: {self._via.name} says: {_said(error)}") from None
        try:
            stream = socket.create_connection((self.address, self.port), timeout=timeout)
        except TimeoutError:
            raise HostError(
                f"{self.name}: {self}: no answer to the TCP connection in {timeout:g} s"
            ) from None
        except OSError as error:
            raise HostError(f"{self.name}: {self}: {error.strerror or error}") from None
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError, AttributeError):
            # A peer that vanished is noticed by this long after a keepalive, not after a quarter of an hour
            # (tcp(7), RFC 5482).
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        return stream

    def _expected_host_keys(self) -> tuple[str, ...]:
        if self.public_host_key:
            return (self.public_host_key,)
        try:
            return tuple(_normal(self.name, key) for key in self._host_keys()) if self._host_keys else ()
        except HostError as error:
            raise HostError(f"{self.name}: {self}: {error}") from None

    def _check_host_key(self, transport: paramiko.Transport, expected: Collection[str]) -> None:
        key = transport.get_remote_server_key()
        seen = f"{key.get_name()} {key.get_base64()}"
        if expected and seen not in expected:
            raise HostError(
                f"{self.name}: {self} is another host: its key is {seen}, expected {' or '.join(expected)}"
            )
        if self.public_host_key is None:
            self.public_host_key = seen
            self.host_key_known_by = "its console" if expected else "first seen"

    def _log_in(self, transport: paramiko.Transport) -> None:
        try:
            if self._key is not None:
                try:
                    transport.auth_publickey(self.user, self._key)
                    return
                except paramiko.AuthenticationException:
                    if self._password is None:
                        raise
            assert self._password is not None
            transport.auth_password(self.user, self._password)
        except paramiko.AuthenticationException as error:
            raise HostError(f"{self.name}: login as {self.user} refused by {self}: {_said(error)}") from None


def session(transport: paramiko.Transport, command: str, within: float) -> paramiko.Channel:
    """Starts a command on a connection that lives (RFC 4254, 6.1 and 6.5); its streams.

    A server may end a session that it has just opened: dropbear 2022.83 does, now and then, when another one of the
    connection ends at that moment. What it was to run had been sent nothing yet, so it is asked for again.

    Args:
        within: seconds that opening it, and each later read and write, may take.

    Raises:
        paramiko.SSHException: no session, or the command was refused every time.
    """
    for tries_left in reversed(range(_SESSION_TRIES)):
        channel = transport.open_session(timeout=within)
        channel.settimeout(within)
        try:
            channel.exec_command(command)
        except paramiko.SSHException:
            if not tries_left or not transport.is_active():
                raise
        else:
            break
    return channel


class _SshChannel:
    """Streams of a command run over SSH."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._poll = select.poll()
        self._poll.register(channel.fileno(), select.POLLIN)

    def send(self, data: bytes, deadline: float) -> None:
        try:
            while data:
                self._channel.settimeout(max(0.001, deadline - time.monotonic()))
                data = data[self._channel.send(data) :]
        except TimeoutError:
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ChannelClosed(self._why(error)) from None

    def receive(self, deadline: float) -> tuple[bytes, bytes]:
        channel = self._channel
        while True:
            out = channel.recv(_CHUNK) if channel.recv_ready() else b""
            err = channel.recv_stderr(_CHUNK) if channel.recv_stderr_ready() else b""
            if out or err:
                return out, err
            if channel.closed or channel.eof_received or not channel.get_transport().is_active():
                if channel.recv_ready() or channel.recv_stderr_ready():
                    continue
                raise ChannelClosed(self._why(None))
            left = deadline - time.monotonic()
            if left <= 0:
                return b"", b""
            # In slices: paramiko's event for two streams can lose a wake-up when both change at once.
            self._poll.poll(min(left, _SLICE) * 1000)

    def _why(self, error: Exception | None) -> str:
        cause = error or self._channel.get_transport().get_exception()
        if cause:
            return _said(cause)
        return "the connection ended" if not self._channel.get_transport().is_active() else "the shell ended"

    def close(self) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


def _load(name: str, path: str | Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(Path(path))
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise HostError(f"SSH host {name!r}: cannot read the key {path}: {_said(error)}") from None


def _algorithms(key: str) -> tuple[str, ...]:
    """The signature algorithms by which a host proves that a key is its own (RFC 8332 for RSA)."""
    kind = key.split(maxsplit=1)[0]
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _normal(name: str, host_key: str) -> str:
    words = host_key.split()
    if len(words) < 2:
        raise ValueError(f"SSH host {name!r}: a host key is two words, type and base64; got {host_key!r}")
    return " ".join(words[:2])


def _said(error: BaseException) -> str:
    if isinstance(error, EOFError) and not str(error):
        return "the connection broke off"
    if isinstance(error, paramiko.ChannelException):
        return str(error.text)
    return str(error).strip() or type(error).__name__
