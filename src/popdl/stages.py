"""The version of each stage's results.

Snakemake reruns a job when its parameters change, but does not see a change in popdl's own code. Raise a stage's number when
its results change for the same config: everything that depends on them is then made anew, instead of being kept silently.
"""

__all__ = ["STAGES"]

STAGES = {
    "simulation": 1,
    "import": 2,
    "encoding": 1,
    "splits": 1,
    "training": 1,
    "baselines": 1,
    "prediction": 1,
    "evaluation": 3,
    "windows": 1,
    "report": 3,
}
