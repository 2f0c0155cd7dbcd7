"""Figures: one file per family; each function takes data and axes, and returns the axes."""
