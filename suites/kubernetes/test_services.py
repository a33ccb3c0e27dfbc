"""Objective 12: the application's services, inside the cluster and from outside."""

from __future__ import annotations

import pytest

from probes.hello import hello, says_hello
from probes.reach import not_reached

CLUSTER_IP = "fastapi-app-clusterip-service"
NODE_PORT = "fastapi-app-nodeport-service"


def every_way(source, service):
    """The service's own address, and each of its endpoints, asked from one place."""
    endpoints = [each.rpartition(":") for each in service.endpoints]
    return [
        hello(source, service.address, service.port),
        *(hello(source, address, int(port)) for address, _, port in endpoints),
    ]


@pytest.mark.acts
@pytest.mark.claim("K8S-06")
def test_the_service_has_three_endpoints(application, service, pods_of):
    """The ClusterIP service leads to port 5000 of each of the three pods, and to nothing else."""
    found = service(CLUSTER_IP)
    wanted = sorted(f"{pod['status'].get('podIP')}:5000" for pod in pods_of("fastapi-app"))
    assert list(found.endpoints) == wanted, (
        f"the endpoints are {', '.join(found.endpoints) or 'none'}, the pods {', '.join(wanted) or 'none'}"
    )
    assert len(found.endpoints) == 3, f"there are {len(found.endpoints)} endpoints"


@pytest.mark.acts
@pytest.mark.claim("K8S-06")
def test_each_endpoint_answers_a_pod(application, test_pod, service):
    """From a test pod the service's address and each of its endpoints answer {"hello":"world"}."""
    says_hello(every_way(test_pod, service(CLUSTER_IP)))


@pytest.mark.acts
@pytest.mark.claim("K8S-06")
def test_each_endpoint_answers_a_node(application, inside_nodes, service):
    """From every node the service's address and each of its endpoints answer {"hello":"world"}."""
    found = service(CLUSTER_IP)
    says_hello(way for host in inside_nodes.values() for way in every_way(host, found))


@pytest.mark.acts
@pytest.mark.claim("K8S-06")
def test_from_outside_the_service_is_unreachable(application, test_pod, service, desktop, node_addresses):
    """From outside nobody answers at the service's address, which answers a pod; the node's port answers outside."""
    found, published = service(CLUSTER_IP), service(NODE_PORT)
    open_to_all = [hello(desktop, address, published.node_port) for address in node_addresses.values()]
    not_reached(
        hello(desktop, found.address, found.port),
        alive=[open_to_all[0], hello(test_pod, found.address, found.port)],
    )


@pytest.mark.acts
@pytest.mark.claim("K8S-07")
def test_every_nodes_port_answers_from_outside(application, service, desktop, node_addresses):
    """The NodePort service answers {"hello":"world"} on the assigned port of every node's address, from outside."""
    found = service(NODE_PORT)
    assert 30000 <= found.node_port <= 32767, f"the assigned port is {found.node_port}"
    says_hello(hello(desktop, address, found.node_port) for address in node_addresses.values())
