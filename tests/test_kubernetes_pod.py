"""A pod's shell through the messages of an exec stream, with a real shell at its far end; and who is explained."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websocket import ABNF, WebSocketConnectionClosedException, WebSocketTimeoutException

from fixtures.explainers import Case
from fixtures.kubernetes_explainer import API, KubernetesExplainer
from probes.hello import hello
from probes.host import CommandTimeout, HostError, LocalHost
from probes.observation import Observation, Outcome
from probes.pod import PodHost
from tests.test_kubernetes_findings import HEALTHY, node, service


class Frame:
    def __init__(self, data: bytes) -> None:
        self.data = data


class Stream:
    """The messages of an exec stream (v4.channel.k8s.io), in pieces, from a shell of this machine."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        self.sock = self
        self.within = 1.0

    def settimeout(self, seconds: float) -> None:
        self.within = seconds

    def write_stdin(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data)

    def recv_data_frame(self, _: bool) -> tuple[int, Frame]:
        assert self.process.stdout
        assert self.process.stderr
        streams = {self.process.stdout.fileno(): 1, self.process.stderr.fileno(): 2}
        ready, _, _ = select.select(list(streams), [], [], self.within)
        if not ready:
            raise WebSocketTimeoutException("timed out")
        data = os.read(ready[0], 7)
        if not data:
            if self.process.poll() is None:
                time.sleep(0.01)
                return ABNF.OPCODE_PING, Frame(b"")
            raise WebSocketConnectionClosedException("the connection is closed")
        return ABNF.OPCODE_BINARY, Frame(bytes([streams[ready[0]]]) + data)

    def close(self, **_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def pod() -> Iterator[PodHost]:
    with PodHost("test-pod", lambda _: Stream()) as host:
        yield host


def test_commands_run_one_after_another_with_both_streams(pod: PodHost) -> None:
    done = pod.run("echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr, done.status) == ("out\n", "err\n", 3)
    assert pod.run("printf %s", "it's here").stdout == "it's here"


def test_much_is_sent_and_received(pod: PodHost) -> None:
    text = "x" * 40_000
    assert pod.run("printf %s", text).stdout == text


def test_a_command_that_does_not_end_is_ended(pod: PodHost) -> None:
    with pytest.raises(CommandTimeout):
        pod.run("echo before; sleep 30", timeout=1)
    assert pod.run("echo again").stdout == "again\n"


def test_a_pod_without_a_shell_says_so() -> None:
    def refuse(_: list[str]) -> Any:
        raise ValueError("exec /bin/sh in pod x: no such\n file")

    with (
        PodHost("x", refuse) as host,
        pytest.raises(HostError, match=r"x: no shell in the pod: exec .* no such file"),
    ):
        host.run("true")


# ---------- explanations
class Answers:
    """What an API answers, by kind."""

    def __init__(self, **objects: list[Any]) -> None:
        self.objects_of = objects

    def objects(self, kind: str, namespace: str = "") -> list[Any]:
        return [] if namespace == "kube-system" else self.objects_of.get(kind, [])


def looked(target: str, outcome: Outcome = Outcome.REFUSED, probe: str = "http") -> Observation:
    return Observation(probe, "desktop", target, "curl", outcome)


def explained(case: Case) -> list[str]:
    nodes = [node("master"), node("worker1", "space_1")]
    nodes[0]["status"]["addresses"] = [{"type": "InternalIP", "address": "12.7.5.47"}]
    broken, other = service(target=5001), service("other", app="nobody")
    for thing, port in ((broken, 30001), (other, 30002)):
        thing["spec"]["ports"][0]["nodePort"] = port
    answers: Any = Answers(Node=nodes, Pod=HEALTHY.pods, Service=[broken, other], Endpoints=HEALTHY.endpoints)
    return list(KubernetesExplainer(answers, "labproof-x-app")(case))


def test_a_failed_look_is_explained_by_the_service_that_it_asked() -> None:
    seen = looked("http://12.7.5.47:30001/")
    (line,) = explained(Case((seen,), (seen,), acts=True))
    assert line.startswith("target port wrong: service svc leads to port 5001")


def test_without_a_failed_look_all_that_is_wrong_is_told() -> None:
    lines = explained(Case((), (looked(API, Outcome.SEEN, "api"),), acts=True))
    assert [line.partition(":")[0] for line in lines] == ["target port wrong", "service without endpoints"]


def test_another_systems_check_is_not_explained() -> None:
    assert explained(Case((looked("http://192.168.37.28:50000/"),), (), acts=False)) == []
    assert explained(Case((looked("12.7.5.47", probe="ping"),), (), acts=False)) == []


def test_the_application_is_asked_by_curl() -> None:
    with LocalHost("desktop") as desktop:
        probe = hello(desktop, "127.0.0.1", 1, window=1)
        assert probe.target == "http://127.0.0.1:1/"
        assert probe.look().outcome is Outcome.REFUSED
