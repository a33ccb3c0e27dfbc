"""Tells what a run found: run file, HTML, JUnit XML, terminal, topology drawings."""
