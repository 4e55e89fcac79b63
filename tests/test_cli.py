"""What a user types and what comes back."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from hahbench import cli
from hahbench.catalog import models
from hahbench.corruptions.official import MD5
from hahbench.data import DATASETS
from hahbench.data.cifar10 import CLASSES
from hahbench.store import Store
from tests.command import run_command

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = run_command(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


OWN_DATA = """
import dataclasses
from hahbench.data import DATASETS, load_images

def load(split, path):
    shapes = load_images("shapes", split, None)
    return dataclasses.replace(shapes, name="few-shapes", images=shapes.images[:40], labels=shapes.labels[:40])

DATASETS.register("few-shapes", load)
"""


@pytest.fixture
def clean_suite(tmp_path: Path) -> Path:
    path = tmp_path / "clean-only.toml"
    path.write_text('dataset = "shapes"\nn = 8\nmodels = ["Standard"]\nattacks = ["clean"]')
    return path


@pytest.mark.parametrize("listing", ["models", "attacks", "suites", "datasets"])
def test_every_listing_comes_as_text_and_as_json(run: Run, listing: str) -> None:
    code, text, _ = run(listing)
    assert code == 0
    code, as_json, _ = run(listing, "--json")
    rows = json.loads(as_json)
    assert code == 0
    assert rows
    assert all(row["name"] in text for row in rows)


def test_a_broken_data_set_does_not_hide_the_others(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DATASETS, "_entries", {**DATASETS._entries, "broken": "no_such_module:load"})
    code, out, _ = run("datasets", "--json")
    what = {row["name"]: row["what"] for row in json.loads(out)}
    assert code == 0
    assert what["broken"].startswith("cannot be used: 'no_such_module:load' cannot be imported")
    assert what["shapes"].startswith("Drawn by hahbench itself")


def test_what_nobody_expected_is_no_regression(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own exit code 1 would be taken for one."""
    monkeypatch.setattr("hahbench.regress.report.read_baseline", lambda path: 1 / 0)
    code, out, error = run("check", "--baseline", "b.json")
    assert (code, out) == (2, "")
    assert error.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_run_gives_its_scores_as_json(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    code, out, _ = run("run", clean_suite, "--store", tmp_path / "store", "--json")
    assert code == 0
    (score,) = json.loads(out)
    assert (score["model"], score["attack"], score["metric"], score["n"]) == ("shapes/Standard", "clean", "accuracy", 8)
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1


def test_a_run_goes_through_the_suites_that_its_suite_includes(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text('dataset = "shapes"\nn = 6\nmodels = ["HaH"]\nattacks = ["clean"]\ninclude = ["clean-only.toml"]')
    code, out, _ = run("run", path, "--store", tmp_path / "store", "--json")
    assert code == 0
    assert [(row["model"], row["n"]) for row in json.loads(out)] == [("shapes/HaH", 6), ("shapes/Standard", 6)]
    # A model of one's own takes the place of all of them.
    code, out, _ = run("run", path, "--model", "HaH-BPDA", "--store", tmp_path / "store", "--json")
    assert code == 0
    assert [row["model"] for row in json.loads(out)] == ["shapes/HaH-BPDA"]


PARTS = 'dataset = "shapes"\nn = 2\nmodels = ["{}"]\nattacks = ["{}"]\nexhibits = {}\ninclude = {}'


def test_each_suite_has_its_attacks_and_exhibits_and_all_the_same_engine(run: Run, tmp_path: Path) -> None:
    (tmp_path / "whole.toml").write_text(PARTS.format("HaH", "clean", "[]", '["part.toml"]'))
    (tmp_path / "part.toml").write_text(PARTS.format("Standard", "fmn-linf", '["activations"]', "[]"))
    arguments = ("run", tmp_path / "whole.toml", "--store", tmp_path / "store", "--engine", "reference", "--json")
    code, out, _ = run(*arguments)
    assert code == 0
    assert {(row["model"], row["attack"]) for row in json.loads(out)} == {
        ("shapes/HaH", "clean"),
        ("shapes/Standard", "fmn-linf-reference"),
    }
    (kept,) = (tmp_path / "store" / "activations").iterdir()
    assert kept.name.startswith("shapes_Standard-activations-")


@pytest.mark.parametrize("wrong", ["steps = 0", "stepz = 5"])
def test_what_is_wrong_in_an_included_suite_is_found_before_anything_is_run(
    run: Run, tmp_path: Path, wrong: str
) -> None:
    (tmp_path / "whole.toml").write_text(PARTS.format("HaH", "clean", "[]", '["part.toml"]'))
    (tmp_path / "part.toml").write_text(PARTS.format("Standard", "mine.toml", "[]", "[]"))
    (tmp_path / "mine.toml").write_text(f'kind = "fmn"\nnorm = "l2"\n[params]\n{wrong}')
    code, _, err = run("run", tmp_path / "whole.toml", "--store", tmp_path / "store")
    assert (code, "attack 'mine' (kind 'fmn')" in err) == (2, True)
    assert not list((tmp_path / "store").glob("*.parquet"))


def test_a_suite_may_have_nothing_but_what_it_includes(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    path = tmp_path / "only.toml"
    path.write_text('dataset = "shapes"\nn = 2\nmodels = []\nattacks = []\ninclude = ["clean-only.toml"]')
    code, out, _ = run("run", path, "--store", tmp_path / "store", "--json")
    assert (code, [row["model"] for row in json.loads(out)]) == (0, ["shapes/Standard"])
    code, _, err = run("run", path, "--store", tmp_path / "store", "--model", "HaH")
    assert (code, "there is nothing to run; a suite needs one or more attacks" in err) == (2, True)


def test_infinity_is_a_string_in_json() -> None:
    assert json.loads(cli._json([{"value": float("inf"), "low": 0.5, "level": float("nan")}])) == [
        {"value": "inf", "low": 0.5, "level": None}
    ]


def test_a_model_is_not_measured_on_a_data_set_it_was_not_trained_on(
    run: Run, clean_suite: Path, tmp_path: Path
) -> None:
    for digit in ("airplane", "automobile"):
        (tmp_path / "images" / digit).mkdir(parents=True)
        PIL.Image.new("RGB", (32, 32)).save(tmp_path / "images" / digit / "0.png")
    data = ["--dataset", "cifar10", "--data", tmp_path / "images", "--n", 2, "--store", tmp_path / "store"]
    code, _, error = run("run", clean_suite, "--model", "shapes/Standard", *data)
    assert code == 2
    assert "model 'shapes/Standard' was trained on 'shapes', not on 'cifar10'" in error


def test_train_on_a_data_set_of_ones_own_then_run(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    few = f"{write(tmp_path / 'own.py', OWN_DATA)}:few-shapes"
    card = write(tmp_path / "mine.toml", 'base = "HaH"\n[params]\nwidth = 0.03')
    code, out, error = run("train", card, "--dataset", few, "--epochs", 1, "--out", tmp_path / "out")
    assert code == 0, error
    assert "test accuracy" in error
    arguments = ["--model", out.strip(), "--dataset", few, "--store", tmp_path / "store", "--json"]
    code, out, error = run("run", clean_suite, *arguments)
    assert code == 0, error
    assert json.loads(out)[0]["model"] == "few-shapes/mine"


def test_a_model_that_views_its_activations_is_run(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    """``view`` fails on activations that lie channels-last."""
    text = """
import torch, hahbench
class Viewing(torch.nn.Conv2d):
    def forward(self, x):
        return super().forward(x).view(len(x), -1)[:, :10]
@hahbench.register_model("viewing")
def viewing():
    return Viewing(3, 4, 3)
"""
    code, _, error = run(
        "run", clean_suite, "--model", write(tmp_path / "view.py", text), "--store", tmp_path / "store"
    )
    assert code == 0, error


def test_a_model_is_never_asked_more_at_once_than_it_was_tried_on(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    """As where a larger batch does not fit into memory."""
    text = """
from hahbench.models.vgg import VGG, vgg16
class Limited(VGG):
    def forward(self, images):
        if len(images) > 40:
            raise RuntimeError("out of memory")
        return super().forward(images)
def limited(**params):
    network = vgg16(**params)
    network.__class__ = Limited
    return network
"""
    write(tmp_path / "limited_network.py", text)
    card = write(tmp_path / "limited.toml", 'base = "shapes/Standard"\nloader = "limited_network:limited"')
    code, _, error = run("run", clean_suite, "--model", card, "--store", tmp_path / "store")
    assert code == 0, error


def test_a_report_on_a_path_that_no_text_can_hold(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    store = tmp_path / os.fsdecode(b"st\xff")
    assert run("run", clean_suite, "--store", store)[0] == 0
    code, _, error = run("report", "--store", store, "--out", tmp_path / "out")
    assert code == 0, error
    page = (tmp_path / "out" / "shapes-n8" / "table1.md").read_text(encoding="utf-8")
    assert page.count("st\\udcff") >= 2


def test_a_seed_is_for_what_can_be_trained(run: Run, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    code, _, error = run("train", "Standard", "--seed", 10**23, *out)
    assert (code, "train.seed must be a whole number from 0 to 2^63 - 1, not 1" in error) == (2, True)
    card = write(tmp_path / "untrained.toml", 'loader = "hahbench.models.vgg:vgg16"')
    code, _, error = run("train", card, "--seed", 3, *out)
    assert (code, "has no [train] table" in error) == (2, True)


def test_run_then_report(run: Run, clean_suite: Path, tmp_path: Path) -> None:
    run("run", clean_suite, "--store", tmp_path / "store")
    code, out, _ = run("report", "--store", tmp_path / "store", "--out", tmp_path / "out")
    assert code == 0
    written = [Path(line) for line in out.splitlines()]
    boards = {f"leaderboard.{suffix}" for suffix in ("html", "md", "tex", "csv", "json")}
    names = {*boards, "table1.md", "table1.tex", "table1.csv", "scores.csv", "figures.md"}
    assert {path.name for path in written if path.parent.name != "models"} == names
    assert [path.suffix for path in written if path.parent.name == "models"] == [".html"]
    assert all(path.is_file() for path in written)


def test_corrupt_writes_images_that_numpy_reads(run: Run, tmp_path: Path) -> None:
    arguments = ["--dataset", "shapes", "--n", 4, "--corruption", "fog", "--corruption", "contrast"]
    code, out, error = run("corrupt", *arguments, "--out", tmp_path / "out")
    assert code == 0, error
    assert [Path(line).name for line in out.splitlines()] == ["labels.npy", "fog.npy", "contrast.npy", "manifest.json"]
    assert np.load(tmp_path / "out" / "fog.npy").shape == (20, 32, 32, 3)
    said = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert said["source"]["dataset"] == "shapes"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corruption", "fogg"], "unknown corruption 'fogg'; did you mean 'fog'?"),
        (["--corruption", "frost"], "corruption 'frost' needs --photographs FOLDER; 'frost_procedural' needs none"),
        (["--photographs", "nowhere"], "frost1.png"),
        (["--n", 0], "n must be in 1..2000"),
        (["--seed", -1, "--n", 1], "seed -1 is not allowed"),
    ],
)
def test_corrupt_says_what_is_wrong(run: Run, tmp_path: Path, arguments: list[object], message: str) -> None:
    code, out, error = run("corrupt", "--dataset", "shapes", "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert out == ""
    assert message in error.splitlines()[-1]


def test_published_files_beside_the_data_are_read_and_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    for name in CLASSES:
        (images / name).mkdir(parents=True)
        PIL.Image.new("RGB", (32, 32)).save(images / name / "0.png")
    published = images / "CIFAR-10-C"
    published.mkdir()
    np.save(published / "labels.npy", np.tile(np.arange(10_000) % 10, 5).astype(np.uint8))
    np.save(published / "fog.npy", np.zeros((50_000, 32, 32, 3), np.uint8))
    for name in ("labels", "fog"):
        content = (published / f"{name}.npy").read_bytes()
        monkeypatch.setitem(MD5, name, hashlib.md5(content, usedforsecurity=False).hexdigest())
    suite = write(
        tmp_path / "few.toml",
        'dataset = "cifar10"\nn = 10\nmodels = []\nattacks = ["corruption-fog", "corruption-contrast"]',
    )
    model = register(tmp_path / "net.py", "return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))")
    arguments = ["--model", model, "--data", images, "--store", tmp_path / "store", "--json"]
    code, out, error = run("run", suite, *arguments)
    assert code == 0, error
    sources = {(score["attack"], score["attack_version"].partition(", judge")[0]) for score in json.loads(out)}
    assert sources == {
        ("corruption-fog", "CIFAR-10-C, published files"),
        ("corruption-contrast", "CIFAR-10-C (regenerated), generator 1"),
    }
    code, _, error = run("baseline", "--store", tmp_path / "store", "--out", tmp_path / "b.json")
    assert code == 0, error


def test_a_run_of_corruptions_makes_table2_and_says_where_the_images_came_from(run: Run, tmp_path: Path) -> None:
    suite = write(
        tmp_path / "few.toml",
        'dataset = "shapes"\nn = 8\nmodels = ["Standard", "HaH"]\n'
        'attacks = ["clean", "corruption-fog", "corruption-frost"]',
    )
    code, _, error = run("run", suite, "--store", tmp_path / "store")
    assert code == 0, error
    code, _, error = run("report", "--store", tmp_path / "store", "--out", tmp_path / "out")
    assert code == 0, error
    page = (tmp_path / "out" / "shapes-n8" / "table2.md").read_text()
    assert "| Frost, procedural " in page
    assert "- Corruptions: CIFAR-10-C (regenerated), generator 1." in page


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def register(path: Path, body: str) -> Path:
    code = f"import torch, hahbench\n@hahbench.register_model({path.stem!r})\ndef net():\n    {body}\n"
    return write(path, code)


def card_of_shipped(path: Path, weights: bytes, sha256: str | None = None) -> Path:
    weights_path = path.with_suffix(".safetensors")
    weights_path.write_bytes(weights)
    hash_line = f'sha256 = "{sha256}"\n' if sha256 else ""
    return write(path, f'base = "shapes/Standard"\nweights = "{weights_path.name}"\n{hash_line}')


def shipped_weights() -> bytes:
    weights = models()["shapes/Standard"].weights
    assert weights is not None
    return weights.read_bytes()


BAD_INPUT: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "unknown model": (lambda tmp: ["--model", "Standart"], "unknown model 'Standart'; did you mean 'Standard'"),
    "untrained model": (lambda tmp: ["--model", "HaH-5"], "hahbench train HaH-5 --dataset shapes'"),
    "file that registers nothing": (
        lambda tmp: ["--model", write(tmp / "empty.py", "x = 1"), "--model", "HaH"],
        "empty.py: registers no model; call register_model in it",
    ),
    "card with a wrong key": (
        lambda tmp: ["--model", write(tmp / "card.toml", 'base = "HaH"\nwieghts = "x"')],
        "unknown key 'wieghts'; did you mean 'weights'?",
    ),
    "wrong-shape model": (
        lambda tmp: ["--model", register(tmp / "flat.py", "return torch.nn.Flatten()")],
        "model 'flat'",
    ),
    "model that gives NaN": (
        lambda tmp: [
            "--model",
            register(
                tmp / "nan.py",
                "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))\n"
                "    torch.nn.init.constant_(net[1].weight, float('nan'))\n    return net",
            ),
        ],
        "model 'nan'",
    ),
    "model that cannot be built": (
        lambda tmp: ["--model", register(tmp / "raises.py", "raise RuntimeError('no such checkpoint')")],
        "no such checkpoint",
    ),
    "missing data": (
        lambda tmp: ["--model", "shapes/Standard", "--dataset", "cifar10", "--data", tmp / "nowhere"],
        "nowhere",
    ),
    "truncated weights": (
        lambda tmp: ["--model", card_of_shipped(tmp / "short.toml", shipped_weights()[:-100])],
        "short.safetensors",
    ),
    "weights whose hash differs": (
        lambda tmp: ["--model", card_of_shipped(tmp / "other.toml", shipped_weights(), "0" * 64)],
        "other.safetensors",
    ),
    "n beyond the data set": (lambda tmp: ["--n", 10**6], "n must be in 1.."),
    "n below one": (lambda tmp: ["--n", 0], "n must be in 1.."),
    "unknown data set": (lambda tmp: ["--dataset", "cifar"], "unknown data set 'cifar'; did you mean 'cifar10'?"),
    "unknown device": (lambda tmp: ["--device", "tpu"], "device 'tpu' is not available"),
    "device that computes nothing": (lambda tmp: ["--device", "meta"], "device 'meta' is not available"),
    "a model given twice": (lambda tmp: ["--model", "Standard", "--model", "Standard"], "given twice"),
    "a store that is a file": (
        lambda tmp: ["--store", write(tmp / "file", "")],
        "results cannot be written here",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line_and_loses_nothing(run: Run, clean_suite: Path, tmp_path: Path, case: str) -> None:
    store = Store(tmp_path / "store")
    assert run("run", clean_suite, "--store", store.folder)[0] == 0
    finished = sorted(store.folder.iterdir())
    arguments, message = BAD_INPUT[case]
    code, out, error = run("run", clean_suite, "--store", store.folder, *arguments(tmp_path))
    lines = [line for line in error.splitlines() if line.startswith("hahbench: ")]
    assert code == 2
    assert out == ""
    assert len(lines) == 1
    assert error.rstrip().endswith(lines[0])
    assert message in lines[0]
    assert "Traceback" not in error
    assert sorted(store.folder.iterdir()) == finished
    assert len(store.read()[0]) == 1


def test_a_full_disk_is_one_clear_line_and_loses_nothing(clean_suite: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the probe of 4 kB fits, a cell's outcomes do not."""
    store = Store(tmp_path / "store")
    command = [sys.executable, "-m", "hahbench", "run", str(clean_suite), "--store", str(store.folder)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    finished = sorted(store.folder.iterdir())
    full = subprocess.run(
        [*command, "--n", "9"],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    last = full.stderr.rstrip().splitlines()[-1]
    assert full.returncode == 2
    assert last.startswith("hahbench: ")
    assert last.endswith("cannot be written: File too large; the cells finished before are kept")
    assert "Traceback" not in full.stderr
    assert sorted(store.folder.iterdir()) == finished


def test_a_wrong_data_set_of_a_suite_with_models_is_named(run: Run) -> None:
    code, _, error = run("run", "quick", "--dataset", "cifar")
    assert (code, error) == (2, "hahbench: unknown data set 'cifar'; did you mean 'cifar10'?\n")


def test_help_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, hahbench.cli; assert not {'torch', 'pandas', 'scipy', 'rich.progress'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
