from __future__ import annotations

import math

import pytest
import torch

from popdl.heads import Heads

TARGETS = {
    "size": {"task": "regression", "classes": [], "weight": 2.0},
    "kind": {"task": "classification", "classes": ["a", "b", "c"], "weight": 1.0},
    "time": {"task": "regression", "classes": []},
}
NAN = math.nan


@pytest.fixture
def heads():
    torch.manual_seed(0)
    return Heads(4, TARGETS)


def test_one_output_per_regression_and_one_logit_per_class(heads):
    assert heads.num_outputs == 5
    assert heads.columns == {"size": slice(0, 1), "kind": slice(1, 4), "time": slice(4, 5)}
    assert heads(torch.zeros(7, 4)).shape == (7, 5)


def test_losses_match_a_loop(heads):
    outputs = torch.randn(6, 5)
    truths = torch.tensor([[1, 0, NAN], [NAN, 2, 0.5], [0, NAN, 1], [2, 1, -1], [-1, 1, NAN], [NAN, 0, 3]])
    losses = heads.losses(outputs, truths)
    sums, counts = [0.0, 0.0, 0.0], [0, 0, 0]
    for output, truth in zip(outputs.tolist(), truths.tolist(), strict=True):
        for target, value in enumerate(truth):
            if math.isnan(value):
                continue
            counts[target] += 1
            if target == 1:
                logits = output[1:4]
                sums[1] += math.log(sum(map(math.exp, logits))) - logits[int(value)]
            else:
                sums[target] += (output[0 if target == 0 else 4] - value) ** 2
    assert losses.counts.tolist() == counts
    assert losses.sums.tolist() == pytest.approx(sums, rel=1e-5)
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    assert heads.total(losses.means()).item() == pytest.approx((2 * means[0] + means[1] + means[2]) / 4, rel=1e-5)


def test_a_missing_truth_has_no_gradient(heads):
    outputs = torch.randn(2, 5, requires_grad=True)
    losses = heads.losses(outputs, torch.tensor([[1.0, NAN, 1.0], [NAN, 2.0, NAN]]))
    heads.total(losses.means()).backward()
    assert (outputs.grad != 0).tolist() == [[True, False, False, False, True], [False, True, True, True, False]]


def test_a_batch_without_any_truth_has_loss_zero_and_a_gradient(heads):
    loss = heads.total(heads.losses(heads(torch.randn(3, 4)), torch.full((3, 3), NAN)).means())
    loss.backward()
    assert loss.item() == 0
    assert heads.linear.weight.grad.abs().sum() == 0
