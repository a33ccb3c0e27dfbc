"""Objective 5: Docker in the NAT VM, its containers, their network and their images."""

from __future__ import annotations

import pytest

from fixtures.docker_jobs import AFTER_COMMIT, HAS_NANO
from probes.observation import Unproven
from probes.reach import command, ping, reached

VM = "10.0.2.15"
BRIDGE = "172.17.0.1"
FIRST = "172.17.0.2"


@pytest.mark.claim("CT-01")
def test_the_docker_service_runs_in_the_vm(docker_vm):
    """The engine answers in the VM, whose docker0 has 172.17.0.1."""
    answer = command(docker_vm.host, "docker info --format '{{.ServerVersion}}'", timeout=60)
    assert answer.numbers.get("status") == 0, f"the docker service does not answer: {answer}"
    seen = command(docker_vm.host, "ip -4 -o address show docker0")
    assert f" {BRIDGE}/16 " in seen.output, f"docker0 does not have {BRIDGE}/16: {seen}"


@pytest.mark.claim("CT-02")
def test_a_user_outside_the_docker_group_is_refused(docker_vm, stranger):
    """Permission denied on the daemon's socket, while the group's member lists containers."""
    member = command(docker_vm.host, "docker ps", timeout=30)
    if member.numbers.get("status") != 0:
        raise Unproven(f"not even a member of the group is let in: {member}")
    seen = command(docker_vm.host, "sudo -u %s docker ps", stranger, timeout=30)
    assert seen.numbers.get("status") not in (0, None), f"{stranger} is let in: {seen}"
    assert "permission denied" in seen.output.lower(), f"refused otherwise: {seen}"


@pytest.mark.acts
@pytest.mark.claim("CT-03")
def test_ct1_runs_and_has_the_first_address(ct1):
    """ct1 runs from the base image with 172.17.0.2/16, as the engine reports it and as it is seen inside."""
    ct1.handle.reload()
    assert ct1.handle.status == "running", f"ct1 is {ct1.handle.status}"
    assert (ct1.address, ct1.prefix_length) == (FIRST, 16), f"ct1 has {ct1.address}/{ct1.prefix_length}"
    seen = command(ct1.host, "ifconfig eth0")
    assert f"inet {FIRST} " in seen.output, f"inside, eth0 does not have {FIRST}: {seen}"
    assert "netmask 255.255.0.0" in seen.output, f"inside, the network is not a /16: {seen}"


@pytest.mark.acts
@pytest.mark.claim("CT-04")
def test_ct1_reaches_the_outside(ct1, outside):
    """ct1 -> a host on the internet: ping succeeds."""
    reached(ping(ct1.host, outside))


@pytest.mark.acts
@pytest.mark.claim("CT-05")
def test_ct1_reaches_the_vm(ct1, docker_vm):
    """ct1 -> 10.0.2.15: ping succeeds."""
    reached(ping(ct1.host, VM))


@pytest.mark.acts
@pytest.mark.claim("CT-06")
def test_the_vm_reaches_ct1_without_any_rule(ct1, docker_vm):
    """VM -> ct1: ping succeeds, though ct1 publishes no port."""
    assert not ct1.handle.attrs["HostConfig"]["PortBindings"], "ct1 publishes ports"
    reached(ping(docker_vm.host, ct1.address))


@pytest.mark.acts
@pytest.mark.claim("CT-07")
def test_a_second_ct1_is_refused(ct1, docker_lab, noted_refusal):
    """A name conflict; the first ct1 goes on running."""
    refusal = noted_refusal("docker run --name ct1", lambda: docker_lab.engine.start("ct1", docker_lab.base))
    assert refusal.kind == "conflict", f"refused otherwise: {refusal}"
    assert "already in use" in refusal.answer, f"the refusal does not say why: {refusal.answer}"
    ct1.handle.reload()
    assert ct1.handle.status == "running", f"ct1 is {ct1.handle.status}"


@pytest.mark.acts
@pytest.mark.claim("CT-08")
def test_ct2s_published_port_leads_to_it(ct2, ct2_from_the_vm):
    """The VM's port 2223 opens an SSH session in ct2."""
    seen = ct2_from_the_vm()
    assert ct2.handle.id.startswith(seen.output.strip() or "nothing"), f"the session is not in ct2: {seen}"


@pytest.mark.acts
@pytest.mark.claim("CT-09")
def test_what_is_installed_in_one_container_is_not_in_the_other(ct1, ct2, nano_in_ct2):
    """nano, installed in ct2, is there and not in ct1."""
    there, here = nano_in_ct2(), command(ct1.host, HAS_NANO)
    assert there.numbers.get("status") == 0, f"nano is not in ct2: {there}"
    assert "GNU nano" in there.output, f"nano does not run in ct2: {there}"
    assert here.output.strip() == "no nano here", f"nano is in ct1 too: {here}"


@pytest.mark.acts
@pytest.mark.claim("CT-10")
def test_commit_makes_an_image_larger_than_its_base(committed, docker_lab):
    """docker commit of ct2: docker images lists the image, and it is larger than the base."""
    names = {listed["Id"]: listed["RepoTags"] for listed in docker_lab.engine.client.api.images()}
    assert committed.id in names, "docker images does not list the committed image"
    assert names[committed.id], "the committed image has no name"
    base = docker_lab.engine.client.images.get(docker_lab.base)
    mine, its = committed.attrs["Size"], base.attrs["Size"]
    assert mine > its, f"the image has {mine} bytes, its base {its}"


@pytest.mark.acts
@pytest.mark.claim("CT-15")
def test_from_the_desktop_both_forwardings_are_needed(
    ct2, ct2_unpublished, ct2_from_the_desktop, ct2_without_its_rule
):
    """Desktop -> ct2's SSH: with the VM's rule and the published port a session opens; with either missing none does."""
    ct2_unpublished()
    seen = ct2_from_the_desktop()
    assert ct2.handle.id.startswith(seen.output.strip() or "nothing"), f"the session is not in ct2: {seen}"
    ct2_without_its_rule()


@pytest.mark.acts
@pytest.mark.claim("CT-14")
def test_a_dockerfile_builds_the_same_image_twice(built, ct4):
    """FROM base, RUN install nano, CMD /bin/bash: its container has nano; the second build gives the same image."""
    assert built.ids[0] == built.ids[1], f"the builds gave {built.ids[0]} and {built.ids[1]}"
    assert built.image.attrs["Config"]["Cmd"] == ["/bin/bash"]
    seen = command(ct4.host, HAS_NANO)
    assert "GNU nano" in seen.output, f"nano is not in the built image: {seen}"


@pytest.mark.acts
@pytest.mark.claim("CT-11")
def test_a_running_container_is_not_removed_and_a_stopped_one_is(ct2, removed):
    """Removing ct2 while it runs is refused; after docker stop it is removed, and docker ps does not list it."""
    refusal = removed["refusal"]
    assert refusal is not None, "ct2 was removed while it ran"
    assert refusal.kind == "conflict", f"refused otherwise: {refusal}"
    assert "running" in refusal.answer, f"the refusal does not say why: {refusal.answer}"
    assert ct2.handle.name not in removed["names"], "docker ps -a still lists ct2"


@pytest.mark.acts
@pytest.mark.claim("CT-12")
def test_the_image_outlives_its_container(ct3, committed, removed, docker_lab):
    """ct2 is gone; its image is not, and ct3 run from it has nano."""
    assert committed.id in {listed["Id"] for listed in docker_lab.engine.client.api.images()}
    seen = command(ct3.host, HAS_NANO)
    assert "GNU nano" in seen.output, f"nano is not in ct3: {seen}"


@pytest.mark.acts
@pytest.mark.claim("CT-13")
def test_what_changed_after_the_commit_is_not_in_the_image(ct3):
    """A file that was made in ct2 after the commit is not in ct3."""
    seen = command(ct3.host, "ls %s", AFTER_COMMIT)
    assert seen.numbers.get("status") not in (0, None), f"the later change is in the image: {seen}"
    assert "No such file" in seen.output, f"it cannot be told whether the later change is there: {seen}"
