"""The file of a baseline: what goes in comes out, it is small, and what is wrong with it is one line."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hahbench.errors import BaselineError
from hahbench.regress.baseline import (
    Baseline,
    BaselineCell,
    BaselineData,
    BaselineModel,
    read_baseline,
    weights_digest,
    write_baseline,
)
from hahbench.spec import AttackSpec

DATA = BaselineData("shapes", False, "shapes", "drawn", 11, "d" * 64)


def random_baseline(models: int, accuracies: int, norms: int, n: int) -> Baseline:
    random = np.random.default_rng(0)
    names = [f"shapes/model-{place}" for place in range(models)]
    cells = []
    for name in names:
        for place in range(accuracies):
            attack = AttackSpec("gaussian-noise", "gaussian-noise", None, (0.01 * (place + 1),))
            right = random.random((1, n)) < 0.7
            cells.append(BaselineCell(name, attack, "1, judge 1", (0,), "accuracy", right))
        for place in range(norms):
            attack = AttackSpec(f"fmn-{place}", "fmn", "l2", (), {"steps": 100})
            found = random.gamma(4, 0.1, (1, n)).astype(np.float32)
            found[0, :2] = 0, np.inf
            cells.append(BaselineCell(name, attack, "2, engine 1, judge 1", (0,), "median_norm", found))
    data = BaselineData("shapes", False, "shapes", "drawn", n, "d" * 64)
    right = random.random(n) < 0.9
    return Baseline(data, {name: BaselineModel(name, "a" * 64, "b" * 64, right) for name in names}, cells)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written = random_baseline(2, 3, 2, 11)
    write_baseline(written, tmp_path / "b.json")
    read = read_baseline(tmp_path / "b.json")
    assert read.data == written.data
    for name, model in written.models.items():
        assert (read.models[name].weights, read.models[name].digest) == (model.weights, model.digest)
        assert read.models[name].right.tolist() == model.right.tolist()
    assert len(read.cells) == len(written.cells)
    for before, after in zip(written.cells, read.cells, strict=True):
        assert (after.model, after.attack, after.attack_version) == (before.model, before.attack, before.attack_version)
        assert (after.seeds, after.metric, after.level) == (before.seeds, before.metric, before.level)
        assert after.outcomes.dtype == before.outcomes.dtype
        assert np.array_equal(after.outcomes, before.outcomes)


def test_the_file_is_readable(tmp_path: Path) -> None:
    """A line for each cell, with its score."""
    write_baseline(random_baseline(1, 1, 1, 11), tmp_path / "b.json")
    found = json.loads((tmp_path / "b.json").read_text())
    assert found["schema"] == 1
    assert found["data"]["n"] == 11
    lines = [line for line in (tmp_path / "b.json").read_text().splitlines() if '"metric"' in line]
    assert len(lines) == 2
    noise = json.loads(lines[0].rstrip(","))
    right = np.unpackbits(np.frombuffer(base64.b64decode(noise["outcomes"][0]), np.uint8), count=11)
    assert noise["value"] == pytest.approx(right.mean(), abs=1e-6)
    assert noise["low"] < noise["value"] < noise["high"]


def test_twelve_models_under_thirty_cells_on_a_thousand_samples_fit_in_500_kb(tmp_path: Path) -> None:
    """As the suite 'paper' has them: four attacks with norms, the rest with flags."""
    write_baseline(random_baseline(12, 26, 4, 1000), tmp_path / "b.json")
    assert (tmp_path / "b.json").stat().st_size < 500_000


def edited(change: Callable[[dict[str, Any]], None]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        found = json.loads(text)
        change(found)
        return json.dumps(found)

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        pytest.param(lambda text: text[: len(text) // 2], "is no baseline, or truncated", id="truncated"),
        pytest.param(lambda text: "", "is no baseline, or truncated", id="empty"),
        pytest.param(lambda text: "[]", "is no baseline; 'hahbench baseline", id="list"),
        pytest.param(lambda text: '{"schema": 1}', "is no baseline of schema 1", id="no cells"),
        pytest.param(edited(lambda found: found.update(schema=2)), "has schema 2; this hahbench", id="newer"),
        pytest.param(edited(lambda found: found["cells"].pop()), "was changed after it was made", id="a cell less"),
        pytest.param(
            edited(lambda found: found["models"]["shapes/model-0"].update(weights="c" * 64)),
            "was changed after it was made",
            id="other weights written in",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(
    tmp_path: Path, edit: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "b.json"
    write_baseline(random_baseline(1, 1, 1, 11), path)
    path.write_text(edit(path.read_text()))
    with pytest.raises(BaselineError) as raised:
        read_baseline(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"none\.json: cannot be read: No such file"):
        read_baseline(tmp_path / "none.json")


def test_an_attack_that_was_carried_out_in_two_ways_cannot_be_kept(tmp_path: Path) -> None:
    baseline = random_baseline(2, 0, 1, 11)
    first, second = baseline.cells
    other = AttackSpec(second.attack.name, "fmn", "l2", (), {"steps": 10})
    changed = BaselineCell(second.model, other, second.attack_version, (0,), "median_norm", second.outcomes)
    with pytest.raises(BaselineError, match="'fmn-0' was carried out in two ways"):
        write_baseline(Baseline(baseline.data, baseline.models, [first, changed]), tmp_path / "b.json")


def test_the_weights_may_hold_more_than_tensors() -> None:
    """``get_extra_state`` adds what it likes to a state dict."""

    class Counting(torch.nn.Linear):
        def __init__(self, steps: int) -> None:
            super().__init__(2, 2, bias=False)
            torch.nn.init.zeros_(self.weight)
            self.steps = steps

        def get_extra_state(self) -> dict[str, int]:
            return {"steps": self.steps}

    assert weights_digest(Counting(1)) == weights_digest(Counting(1)) != weights_digest(Counting(2))
