"""Simulators, one per file; the name of the file is the name in the config."""
