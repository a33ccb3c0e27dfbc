"""Clouds that fail: bounded waits, one clear reason each, nothing left. A few each day, all by `make cloud-faults`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from provision.box import runtime
from provision.cloud import Cloud
from provision.holdings import holdings
from provision.lab import Lab
from tests.fault_matrix import KINDS, Bench, Row, all_of
from tests.faulty_cloud import Trust

pytestmark = pytest.mark.box

# the everyday ones -> calls with each, the worst for what it may leave or hide
EVERYDAY = [
    ("503 after", "POST network /v2.0/routers"),
    ("reset after", "POST compute /v2.1/servers"),
    ("half", "POST network /v2.0/floatingips"),
    ("cut", "POST network /v2.0/networks"),
    ("500", "GET compute /v2.1/limits"),
    ("429 in 1 h", "GET compute /v2.1/servers?name&status"),
]


@pytest.fixture(scope="module")
def bench(lab: Lab, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    box = runtime.running()
    assert box is not None
    folder = tmp_path_factory.mktemp("faulty")
    yield Bench(lab, cloud, box.clouds_yaml, folder, Trust.make(folder))
    left = [f"{kind} {name}" for kind, name, _ in holdings(cloud).things() if name.startswith("labproof-")]
    assert not left


@pytest.fixture(scope="module")
def calls(bench: Bench) -> tuple[list[str], list[str]]:
    return bench.calls()


@pytest.fixture
def tell(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Shows rows as they come, and keeps them in reports/out/cloud-faults."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    folder = pytestconfig.rootpath / "reports" / "out" / "cloud-faults"
    folder.mkdir(parents=True, exist_ok=True)
    name = request.node.name.removeprefix("test_").replace(" ", "-").replace("[", "-").rstrip("]")
    with (folder / f"{name}.txt").open("w", encoding="utf-8") as file:

        def show(row: str) -> None:
            file.write(row + "\n")
            file.flush()
            if reporter is not None and pytestconfig.get_verbosity() > 0:
                reporter.ensure_newline()
                reporter.write_line(row)

        yield show


def wrong(rows: list[Row]) -> str:
    return "\n".join(str(row) for row in rows if row.problems)


@pytest.mark.cloud_faults
@pytest.mark.parametrize("kind", KINDS)
def test_provisioning_with_a_fault_on_each_of_its_calls(
    bench: Bench, calls: tuple[list[str], list[str]], tell: Callable[[str], None], kind: str
) -> None:
    rows = all_of(bench.provision, kind, calls[0], tell)
    assert len(rows) > 20
    assert not wrong(rows), wrong(rows)


@pytest.mark.cloud_faults
@pytest.mark.parametrize("kind", KINDS)
def test_removal_with_a_fault_on_each_of_its_calls(
    bench: Bench, calls: tuple[list[str], list[str]], tell: Callable[[str], None], kind: str
) -> None:
    rows = all_of(bench.remove, kind, calls[1], tell)
    assert len(rows) > 12
    assert not wrong(rows), wrong(rows)


@pytest.mark.parametrize(("kind", "call"), EVERYDAY)
def test_everyday_faults(bench: Bench, kind: str, call: str) -> None:
    row = bench.provision(kind, call)
    assert not row.problems, str(row)
