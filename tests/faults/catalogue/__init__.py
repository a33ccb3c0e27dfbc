"""What goes wrong in labs: by students' hands (the lab reports tell) and in operation."""

from tests.faults.catalogue import calculator, docker, natvm, networks, one_vm, operations
from tests.faults.fault import CATALOGUE

__all__ = ["CATALOGUE", "calculator", "docker", "natvm", "networks", "one_vm", "operations"]
