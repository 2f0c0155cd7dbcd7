"""popdl: deep-learning inference from population genomic data.

Importing the package imports nothing heavy: a simulation job must start in about a second,
so torch, pandas and matplotlib are only ever imported by the modules that need them.
"""

__version__ = "0.1.0"
