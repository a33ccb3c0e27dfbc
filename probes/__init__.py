"""Probes look and never change anything; every look yields an Observation."""
