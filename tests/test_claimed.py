"""Which of a cloud's things a sweeper may remove: in the journal and tagged, and nothing else."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from provision.claimed import beside, claimed
from provision.holdings import (
    CloudFloatingIP,
    CloudNetwork,
    CloudPort,
    CloudServer,
    CloudThing,
    Holdings,
)
from provision.journal import Entry
from provision.mark import Mark

MARK = Mark("ab12c", "one")
RUN = Mark("ab12c")
OWN = MARK.description()


def network(id_: str, name: str, description: str = OWN, tags: tuple[str, ...] = ()) -> CloudNetwork:
    return CloudNetwork(id_, name, description, tags, ())


def port(id_: str, network_id: str, device: str = "", owner: str = "", name: str = "") -> CloudPort:
    return CloudPort(id_, name, "", (), network_id, device, owner, "", (), (), "")


def server(id_: str, name: str, run: str) -> CloudServer:
    return CloudServer(id_, name, "ACTIVE", None, "nano", None, None, {"labproof_run": run}, ())


def ids(have: Holdings) -> set[str]:
    return {id_ for _, _, id_ in have.things()}


def test_it_takes_both_the_journal_and_the_tag() -> None:
    have = Holdings(
        networks=(
            network("both", MARK.name("front")),
            network("untagged", MARK.name("front"), ""),
            network("unwritten", MARK.name("back")),
            network("by-tag", MARK.name("front"), "", ("labproof:ab12c",)),
            network("by-id", "renamed"),
        ),
        servers=(server("ours", MARK.name("vm"), "ab12c"), server("theirs", MARK.name("vm"), "zz")),
        keypairs=(CloudThing(MARK.name("key"), MARK.name("key")), CloudThing("x", "x")),
        images=(CloudThing("i1", RUN.name("snap"), "ab12c"), CloudThing("i2", RUN.name("snap"))),
    )
    entries = [
        Entry("network", MARK.name("front")),
        Entry("network", "gone", "by-id"),
        Entry("server", MARK.name("vm")),
        Entry("keypair", MARK.name("key")),
        Entry("image", RUN.name("snap")),
    ]
    ours = claimed(have, RUN, entries)
    assert ids(ours) == {"both", "by-tag", "by-id", "ours", MARK.name("key"), "i1"}
    assert {id_ for _, _, id_ in beside(have, ours)} == {"untagged", "unwritten", "theirs", "x", "i2"}


def test_in_the_runs_network_goes_what_is_nobodys() -> None:
    have = Holdings(
        networks=(network("n", MARK.name("front")),),
        servers=(server("s", MARK.name("vm"), "ab12c"),),
        ports=(
            port("of-our-server", "n", "s", "compute:nova"),
            port("nobodys", "n"),
            port("of-a-server-that-is-gone", "n", "dead", "compute:nova"),
            port("of-their-server", "n", "alive", "compute:nova"),
            port("of-their-router", "n", "router", "network:router_interface"),
            port("elsewhere", "m"),
        ),
    )
    entries = [Entry("network", MARK.name("front")), Entry("server", MARK.name("vm"))]
    ours = claimed(have, RUN, entries, gone=lambda id_: id_ == "dead")
    assert ids(ours) == {"n", "s", "of-our-server", "nobodys", "of-a-server-that-is-gone"}


def test_a_floating_ip_is_known_by_what_is_written_on_it() -> None:
    def address(id_: str, description: str) -> CloudFloatingIP:
        return CloudFloatingIP(id_, IPv4Address("192.168.37.9"), description, (), None)

    have = Holdings(
        floating_ips=(
            address("host's", MARK.description("vm")),
            address("spare", RUN.name("spare")),
            address("another's", Mark("zz", "one").description("vm")),
            address("unwritten", MARK.description("other")),
            address("theirs", ""),
        )
    )
    entries = [Entry("floating IP", MARK.name("vm")), Entry("floating IP", RUN.name("spare"))]
    assert ids(claimed(have, RUN, entries)) == {"host's", "spare"}


@given(
    st.lists(
        st.sampled_from(["labproof", "labproof-ab12c", "labproof-ab12cd-x", "labproof-ab12c-one-front", ""])
    ),
    st.lists(st.sampled_from(["", "labproof", "labproof:ab12cd one", "labproof:zz", "labproof-ab12"])),
)
def test_nothing_goes_that_does_not_carry_the_tag(names: list[str], words: list[str]) -> None:
    pairs = list(zip(names, words, strict=False))
    have = Holdings(networks=tuple(network(str(n), name, word) for n, (name, word) in enumerate(pairs)))
    entries = [Entry("network", name, str(n)) for n, (name, _) in enumerate(pairs)]
    assert not claimed(have, RUN, entries)
