"""Looks at what somebody else has built in a project of a cloud: nothing is made, changed or removed."""
