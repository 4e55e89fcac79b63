"""A benchmark end to end: every engine has its row, and what the rows say can be counted by hand."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from benchmarks import attacks, corruptions
from benchmarks.cost import Cost, cost_of
from benchmarks.libraries import LIBRARIES, Task
from benchmarks.table import Side, compare
from hahbench.attacks import build_attack
from hahbench.catalog import models, read_attack
from hahbench.corruptions import CORRUPTIONS
from hahbench.data import load_images
from hahbench.models.load import load_model
from hahbench.models.prepare import prepare
from hahbench.outcome import Samples
from hahbench.spec import AttackSpec

N = 6
CLASSES = 10
EPSILON = 1 / 255

needs_adv_lib = pytest.mark.skipif(importlib.util.find_spec("adv_lib") is None, reason="adv-lib is not installed")


@pytest.fixture(scope="module")
def standard() -> nn.Module:
    return load_model(models()["shapes/Standard"])


@pytest.fixture(scope="module")
def samples() -> Samples:
    return load_images("shapes", "test", None).first(N)


@pytest.fixture
def apgd(tmp_path: Path) -> Path:
    path = tmp_path / "apgd-ce.toml"
    path.write_text('kind = "autoattack"\nnorm = "linf"\nlevels = ["8/255"]\nparams.members = ["apgd-ce"]\n')
    return path


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        attacks.main()
    return int(stop.value.code or 0)


def broken(model: nn.Module, samples: Samples, images: Tensor) -> Tensor:
    assert float((images - samples.images).abs().max()) <= EPSILON + 1e-6
    with torch.no_grad():
        predicted: Tensor = model(images).argmax(dim=1)
    return predicted != samples.labels


def test_each_engine_has_a_row_whose_verdicts_can_be_counted_again(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    apgd: Path,
    standard: nn.Module,
    samples: Samples,
) -> None:
    out = tmp_path / "out"
    asked = ["--attack", apgd, "--level", "1/255", "--n", N, "--seed", 3, "--out", out]
    assert call(monkeypatch, *asked) == 0

    attack, task = build_attack(read_attack(apgd)), Task(samples, EPSILON, 3, CLASSES)
    candidates = attack(prepare(standard, samples.images[:4]), samples, EPSILON, 3, lambda fraction, accuracy: None)
    by_us = broken(standard, samples, candidates.images)
    by_them = broken(standard, samples, LIBRARIES["autoattack"]["pyautoattack"](standard, attack, task))

    rows = pd.read_csv(out / "attacks.csv").set_index("engine")
    assert list(rows.index) == ["hahbench", "pyautoattack"]
    ours, theirs = rows.loc["hahbench"], rows.loc["pyautoattack"]
    assert ours["result"] == pytest.approx(float((~by_us).double().mean()))
    assert theirs["result"] == pytest.approx(float((~by_them).double().mean()))
    assert theirs["same_verdict"] == pytest.approx(float((by_us == by_them).double().mean()))
    assert theirs["only_hahbench_broke"] == int((by_us & ~by_them).sum())
    assert theirs["only_it_broke"] == int((by_them & ~by_us).sum())
    assert theirs["ratio"] == pytest.approx(theirs["seconds"] / ours["seconds"])
    assert ours["forwards"] == pytest.approx(float(candidates.forwards.double().mean()))
    assert ours["backwards"] == pytest.approx(float(candidates.backwards.double().mean()))

    captured = capsys.readouterr()
    assert captured.out == (out / "attacks.md").read_text(encoding="utf-8")
    assert "1 thread of" in captured.out
    assert captured.out.count("| shapes/Standard |") == 2

    assert call(monkeypatch, *asked) == 0
    assert len(pd.read_csv(out / "attacks.csv")) == 4


@pytest.mark.parametrize("library", ["foolbox", pytest.param("adv-lib", marks=needs_adv_lib)])
def test_minimum_norm_attacks_of_the_libraries_leave_wrong_samples_alone_and_break_the_others(
    library: str, standard: nn.Module, samples: Samples
) -> None:
    with torch.no_grad():
        clean = standard(samples.images).argmax(dim=1)
    wrong = Samples(samples.index, samples.images, torch.where(samples.index < 3, (clean + 1) % CLASSES, clean))
    attack = build_attack(read_attack(Path("attacks/fmn-l2.toml")))
    images = LIBRARIES["fmn"][library](standard, attack, Task(wrong, None, 0, CLASSES))
    with torch.no_grad():
        found = standard(images).argmax(dim=1)
    assert torch.equal(images[:3], samples.images[:3])
    assert bool((found[3:] != clean[3:]).all())
    lengths = (images - samples.images)[3:].flatten(1).norm(dim=1)
    assert 0.05 < float(lengths.median()) < 0.6


def test_norms_are_compared_on_the_samples_that_both_sides_broke() -> None:
    def side(engine: str, norms: list[float]) -> Side:
        frame = pd.DataFrame({"label": 0, "adv_pred": [1 if norm < math.inf else 0 for norm in norms], "l2": norms})
        return Side(engine, frame, Cost(1.0, 1.0, 1.0, 1, 1, 1, 1.0))

    ours, theirs = side("hahbench", [0.0, 1.0, 2.0, 3.0, math.inf]), side("foolbox", [0.0, 4.0, 2.0, math.inf, 1.0])
    row = compare("a", AttackSpec("fmn-l2", "fmn", "l2"), None, theirs, ours)
    assert row.norm_ratio == pytest.approx(2.0)
    assert math.isnan(compare("a", AttackSpec("pgd", "pgd", "l2", (0.5,)), 0.5, theirs, ours).norm_ratio)


def test_the_cost_counts_images_at_the_whole_model(standard: nn.Module, samples: Samples) -> None:
    told: list[int] = []

    def attack() -> str:
        with torch.no_grad():
            standard(samples.images[:5])
        point = samples.images[:4].clone().requires_grad_()
        for retained in (True, False):
            logits = standard(point)
            for _ in range(2 if retained else 1):
                torch.autograd.grad(logits.sum(), point, retain_graph=retained)
        return "done"

    result, cost = cost_of([standard], attack, told.append)
    assert result == "done"
    assert (cost.forwards, cost.backwards) == (13, 12)
    assert told == [5, 9, 13]
    assert 0 < cost.model_seconds < cost.seconds
    assert 0 < cost.own_share < 1
    assert cost.peak_mib > 50 or math.isnan(cost.peak_mib)
    assert not standard._forward_hooks
    assert not standard._forward_pre_hooks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--attack", "clean"], "attack 'clean': kind 'clean' is in none of the other libraries; allowed: autoattack"),
        (["--attack", "autoattack-linf", "--level", "two"], "--level 'two'; allowed: numbers or fractions"),
        (["--attack", "autoattack-linf", "--steps", "5"], "unknown parameter 'steps'"),
        (["--model", "nobody"], "unknown model 'nobody'"),
    ],
)
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmark: ")
    assert message in line


def test_rows_are_not_appended_below_other_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, apgd: Path
) -> None:
    (tmp_path / "attacks.csv").write_text("model,seconds\n")
    assert call(monkeypatch, "--attack", apgd, "--n", 2, "--out", tmp_path) == 2
    assert "its columns are not those of this benchmark; move the file away" in capsys.readouterr().err


def test_the_corruptions_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["corruptions", "--n", "8"])
    with pytest.raises(SystemExit) as stop:
        corruptions.main()
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("| ")]) == 1 + len(list(CORRUPTIONS)) + 1
    assert "8 images of shapes at 5 severities" in lines[-1]
