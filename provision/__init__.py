"""Makes and removes real things: topologies, clouds' servers, VMs, containers. Asserts nothing, knows no test runner."""
