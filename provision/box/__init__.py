"""The embedded lab: a real OpenStack, and the physical world around it, on one machine."""
