"""The parts of the suites that faults are looked at with: what each part of the lab can show."""

from __future__ import annotations

from tests.faults.fault import Scope

ONE_VM = Scope("OpenStack, one VM", "cloud", ("suites/openstack/test_one_vm.py", "-m", "not acts"))
API = Scope(
    "OpenStack, client and API", "cloud",
    ("suites/openstack/test_one_vm.py", "suites/openstack/test_client_and_api.py", "-m", "not acts"),
)  # fmt: skip
RULES = Scope(
    "Security group rules", "cloud", ("suites/openstack/test_one_vm.py", "-k", "test_each_rule_of_the_security_group")
)  # fmt: skip
NETWORKS = Scope("Two networks", "cloud", ("suites/openstack/test_topology.py", "-m", "not acts"))
OVER = Scope(
    "Calculator over two networks", "cloud", ("suites/calculator", "-m", "not acts", "-k", "over")
)  # fmt: skip
GROWING = Scope(
    "Resize", "cloud", ("suites/openstack/test_operations.py", "-k", "test_resize_to_a_larger_flavor")
)
RESTORED = Scope("Snapshot and restore", "cloud", ("suites/openstack/test_operations.py", "-k", "restor"))
NAT = Scope(
    "NAT VM", "natvm",
    ("suites/virtualbox/test_nat.py", "suites/virtualbox/test_duplication.py", "-k", "test_nat or two_nat_vms"),
)  # fmt: skip
CALCULATOR = Scope(
    "Calculator on one VM", "natvm", ("suites/calculator", "-m", "not acts", "-k", "one_vm and not of_another_making")
)  # fmt: skip
CONTAINER = Scope(
    "A container", "natvm",
    ("suites/docker", "-k", "docker_service or outside_the_docker_group or ct1_r or vm_reaches_ct1 or second_ct1"),
)  # fmt: skip
PUBLISHED = Scope(
    "A container's published port", "natvm",
    ("suites/docker", "-k", "docker_service or published_port_leads or both_forwardings or installed_in_one"),
)  # fmt: skip
COMMITTED = Scope(
    "A container's image", "natvm",
    ("suites/docker", "-k", "docker_service or commit or running_container or outlives"),
)  # fmt: skip
HEALTHY = (API, NETWORKS, OVER, NAT, CALCULATOR)
"""The scopes whose checks only look at what stands: run again and again on the healthy lab, none may turn."""
STAND = {
    **{scope: scope for scope in HEALTHY},
    **dict.fromkeys((ONE_VM, RULES, GROWING, RESTORED), API),
    **dict.fromkeys((CONTAINER, PUBLISHED, COMMITTED), NAT),
}
"""The scope whose checks, when they have run, leave standing what the faults of a scope are put into."""
