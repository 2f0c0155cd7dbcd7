"""What can be said of training on a GPU without one: nothing makes the host wait for it, and what is set is exact.

torch's `meta` device stands in for the GPU: its tensors have no values, so whatever asks for one fails, and what comes from the host can be
seen to come.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import learnable
import pytest
import torch
from batches import make, some
from test_transforms import CASES
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from popdl import plugins
from popdl.config.base import validate
from popdl.config.training import Training
from popdl.heads import Heads
from popdl.loader import PackedData
from popdl.networks._base import InputShape, build
from popdl.optimization import make_optimizer
from popdl.timing import Stopwatch
from popdl.training import _reproducible
from popdl.transforms._base import Examples

META = torch.device("meta")
TARGETS = {
    "size": {"task": "regression", "weight": 0.1},
    "place": {"task": "regression", "circular": 1.0, "sd": 0.3},
    "kind": {"task": "classification", "classes": ["0", "1"], "class_weights": {"0": 1.0, "1": 2.0}, "weight": 2},
}


class Copies(TorchDispatchMode):
    """Notes every operation that takes a tensor of the host and gives one of the device."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given, made = (
            {leaf.device.type for leaf in tree_leaves(part) if isinstance(leaf, torch.Tensor)}
            for part in ((args, kwargs), results)
        )
        if "cpu" in given and "meta" in made:
            self.found.append(str(func))
        return results


class Lists(TorchFunctionMode):
    """Notes every tensor of the device that is made of a list of the host."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor) and result.device == META:
            self.found.append(str(func))
        return result


@contextmanager
def from_the_host() -> Iterator[list[str]]:
    """What comes from the host meanwhile."""
    found: list[str] = []
    with Copies(found), Lists(found):
        yield found


def test_the_stand_in_sees_what_it_is_there_for() -> None:
    device = torch.zeros(3, device=META)
    with from_the_host() as found:
        torch.arange(3, device=META) + device
        assert not found
        device.new_tensor([1.0, 2.0])
        assert len(found) == 1
        torch.tensor([1.0], device=META)
        assert len(found) == 2
        torch.arange(3).to(META)
        assert len(found) == 3
    for asks in (lambda: float(device.sum()), lambda: device[device > 0], lambda: device.nonzero()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            asks()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_transforms_leave_the_host_alone(name: str, options: dict[str, Any]) -> None:
    if isinstance(options.get("individuals"), list):
        pytest.skip("how many individuals a batch has decides its shape, which the host must know")
    transform, examples = make(name, **options), some(1)
    assert examples.positions is not None
    there = Examples(*(part.to(META) for part in (examples.genotypes, examples.positions, examples.mask)))
    transform(there, None)  # what it needs is brought to the device once
    with from_the_host() as found:
        after = transform(there, None)
    assert after.genotypes.device == META
    assert found == []


@pytest.mark.parametrize("values", ["0/1", "-1/1"])
@pytest.mark.parametrize("name", [*plugins.known("networks"), "site_pairs in stretches"])
def test_steps_leave_the_host_alone(name: str, values: str) -> None:
    network, _, rest = name.partition(" ")
    with META:  # as models are loaded, and then filled
        body = build(network, {"stretches": 4} if rest else {}, InputShape(50, 400, has_positions=True))
        heads = Heads(body.num_features, TARGETS)
    module = nn.ModuleList([body, heads])
    optimizer = torch.optim.AdamW(module.parameters(), fused=False, capturable=False)
    packed = torch.zeros(20, 50, 50, dtype=torch.uint8, device=META)
    encoding = {"settings": {"max_sites": 400, "values": values}}
    positions, num_sites = torch.zeros(20, 400, device=META), torch.zeros(20, dtype=torch.int32, device=META)
    data = PackedData(packed, packed, positions, num_sites, encoding, "")

    def step() -> None:
        batch = data.batch(torch.arange(8, device=META))
        losses = heads.losses(heads(body(*batch)), torch.zeros(8, 3, device=META))
        optimizer.zero_grad()
        heads.total(losses.means()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0, error_if_nonfinite=False)

    step()  # what it needs is brought to the device once
    with from_the_host() as found:
        step()
    assert found == []


def test_weights_of_targets_are_those_of_the_config_and_in_no_model() -> None:
    heads = Heads(4, TARGETS)
    assert set(heads.state_dict()) == {"linear.weight", "linear.bias"}
    for dtype in (torch.float32, torch.float64):
        means = torch.tensor([1.0, 3.0, 0.5], dtype=dtype)
        weights = torch.tensor([0.1, 1.0, 2.0], dtype=dtype)
        with META:  # as models are loaded
            loaded = Heads(4, TARGETS)
        for part in (heads, loaded):
            assert torch.equal(part.total(means), (means * weights).sum() / weights.sum())


def test_a_network_that_keeps_tables_is_loaded_with_them() -> None:
    shape, options = InputShape(6, 30, has_positions=True), {"stretches": 4}
    network = build("site_pairs", options, shape).eval()
    with META:
        loaded = build("site_pairs", options, shape).eval()
    loaded.load_state_dict(network.state_dict(), assign=True)
    batch = (torch.rand(3, 6, 30) < 0.3).float(), torch.rand(3, 30), torch.ones(3, 30, dtype=torch.bool)
    assert torch.equal(loaded(*batch), network(*batch))


class Event:
    """A mark on a GPU's time, which only one that has waited for the GPU may read."""

    now = 0.0
    waited = False

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: object) -> None:
        self.time = Event.now

    def elapsed_time(self, later: Event) -> float:
        assert Event.waited
        return later.time - self.time


def test_a_stopwatch_waits_for_the_gpu_at_its_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[object] = []

    def synchronize(device: object) -> None:
        waits.append(device)
        Event.waited = len(waits) == 2

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    stopwatch = Stopwatch(torch.device("cuda"))
    for _ in range(5):
        with stopwatch.waiting():
            Event.now += 20.0  # ms
        Event.now += 1000.0
        assert len(waits) == 1
    seconds, waiting = stopwatch.read()
    assert len(waits) == 2
    assert waiting == pytest.approx(0.1)
    assert seconds >= 0


def test_a_stopwatch_of_a_cpu_counts_what_is_inside_alone() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    assert stopwatch.read()[1] == 0
    with stopwatch.waiting():
        sum(range(10_000))
    seconds, waiting = stopwatch.read()
    assert 0 < waiting < seconds


@pytest.mark.parametrize(
    ("optimizer", "fused"),
    [
        ("adam", True),
        ("adamw", True),
        ("sgd", True),
        ({"name": "AdamW", "foreach": True}, None),
        ({"name": "AdamW", "fused": False}, False),
        ("RMSprop", None),
    ],
)
def test_optimizers_are_fused_on_a_gpu_alone(optimizer: Any, fused: bool | None) -> None:
    training = validate(Training, {"optimizer": optimizer}, where="training")
    here = make_optimizer(nn.Linear(2, 2), training)
    assert here.defaults.get("fused") in (None, False)
    with FakeTensorMode():
        module = nn.Module()
        module.weight = nn.Parameter(torch.empty(2, 2, device="cuda"))
        there = make_optimizer(module, training)
    assert there.defaults.get("fused") == fused


def test_a_training_is_exact_on_a_gpu_and_leaves_torch_as_it_was() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision()
    with _reproducible(learnable.TRAINING.threads):
        assert not cudnn.allow_tf32 and not cudnn.benchmark
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert (cudnn.allow_tf32, cudnn.benchmark, torch.get_float32_matmul_precision()) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_more_steps_do_not_wait_more_often_for_a_gpu(tmp_path: Path) -> None:
    data, counts = learnable.dataset(tmp_path / "data"), []
    for size in (30, 5):
        training = learnable.TRAINING.model_copy(update={"batch_size": size, "max_epochs": 1})
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                learnable.fit(data, tmp_path / str(size), training=training)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(warning.message) for warning in found))
    assert counts[0] == counts[1]
