"""Grades a class from its roster: the suites once per group, each in a process of its own."""
