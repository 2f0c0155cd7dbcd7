"""What the scores say, in plain sentences; what speaks against a network comes first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from popdl.metrics import FEWEST_SCENARIOS

__all__ = ["judge"]

ORDER = ("worse", "not distinguishable", "cannot be said", "better")
"""Bad news first."""


def judge(
    best: str,
    models: Mapping[str, Any],
    comparisons: Sequence[Mapping[str, Any]],
    targets: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Say, per target and overall, whether the best network beats the best baseline.

    Parameters
    ----------
    best
        Name of the network with the lowest validation loss.
    models
        Scores by model and target, as in ``metrics.json``.
    comparisons
        Every network against every baseline, as in ``metrics.json``.
    targets
        Description of each target.

    Returns
    -------
    dict
        ``outcome`` (`better` only if it is so for every target, `partly better` if it is for some and worse for none; else the
        worst outcome of any; `cannot be said` if too few test scenarios have a value of any target), ``sentences`` (overall first, then targets from worst to best), and ``targets``: for each
        ``outcome``, ``baseline`` and ``sentence``.
    """
    judged: dict[str, dict[str, Any]] = {}
    for target, description in targets.items():
        against = [row for row in comparisons if row["network"] == best and row["target"] == target]
        if against:
            # The largest difference is the one to the baseline with the smallest error: the strongest opponent.
            row = max(against, key=lambda row: row["difference"])
            judged[target] = _judge_target(row, models, description)
    if not judged:
        return {
            "outcome": "not compared",
            "sentences": ["There is no baseline to compare the network with."],
            "targets": {},
        }
    counts = Counter(verdict["outcome"] for verdict in judged.values())
    outcome = next(word for word in ORDER if counts[word])
    if outcome != "worse" and 0 < counts["better"] < len(judged):
        outcome = "partly better"
    ordered = sorted(judged.values(), key=lambda verdict: ORDER.index(verdict["outcome"]))
    return {
        "outcome": outcome,
        "sentences": [_overall(best, counts), *(verdict["sentence"] for verdict in ordered)],
        "targets": judged,
    }


def _overall(best: str, counts: Mapping[str, int]) -> str:
    """One sentence for all targets; what speaks against the network comes first."""
    total = sum(counts.values())
    if counts["better"] == total:
        return f"The network {best} beats the best baseline" + (" on every target." if total > 1 else ".")
    if counts["cannot be said"] == total:
        return (
            f"Whether the network {best} beats the best baseline cannot be said: "
            f"too few test scenarios have a value ({FEWEST_SCENARIOS} needed)."
        )
    if total == 1:
        return (
            f"The network {best} " + ("is worse than" if counts["worse"] else "does not beat") + " the best baseline."
        )
    bad = counts["worse"] or counts["not distinguishable"]
    parts = {
        "worse": f"is worse than the best baseline on {counts['worse']} of {total} targets",
        "not distinguishable": f"is no better than the best baseline on {counts['not distinguishable']} of {total} targets",
        "better": f"beats {'it' if bad else 'the best baseline'} on {counts['better']} of {total} targets",
    }
    said = f"The network {best} " + ", ".join(parts[word] for word in parts if counts[word])
    if counts["cannot be said"]:
        said += f"; on {counts['cannot be said']} of {total} it cannot be said: too few test scenarios have a value"
    return said + "."


def _judge_target(row: Mapping[str, Any], models: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    network, baseline = (models[row[role]]["targets"][row["target"]]["metrics"] for role in ("network", "baseline"))
    if "rmse" in network:
        numbers = ", ".join(
            f"{name} {network[key]['value']:.3g} against {baseline[key]['value']:.3g}"
            for key, name in (("r2", "R²"), ("rmse", "RMSE"))
        )
        numbers = numbers.replace("-", "−")
        numbers += {"log": " in log10 units", "logit": " in logit units"}.get(description["scale"], "")
    else:
        numbers = f"accuracy {network['accuracy']['value']:.1%} against {baseline['accuracy']['value']:.1%}"
    label = description.get("label") or row["target"]
    if row["verdict"] == "cannot be said":
        n = models[row["network"]]["targets"][row["target"]]["num_scenarios"]
        found = f"{n} test scenarios have" if n > 1 else "1 test scenario has"
        sentence = (
            f"{label}: whether the network beats {row['baseline']} cannot be said: only {found} a value "
            f"({FEWEST_SCENARIOS} needed); {numbers}."
        )
    else:
        words = {
            "better": f"beats {row['baseline']}",
            "worse": f"does not beat {row['baseline']}, it is worse",
            "not distinguishable": f"does not beat {row['baseline']}, the difference is within the noise of the test split",
        }[row["verdict"]]
        sentence = f"{label}: the network {words} ({numbers})."
    return {"outcome": row["verdict"], "baseline": row["baseline"], "sentence": sentence}
