"""The plug-in as a project's own pytest runs it, in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hahbench.registry import import_attribute

SUITE = 'dataset = "shapes"\nn = 30\nmodels = ["Standard"]\nattacks = ["clean", "noise.toml", "pgd.toml"]'
OFF = 'base = "shapes/Standard"\nname = "shapes/Standard"\nloader = "zeroed:zeroed"\n'
# Weights that are loaded and then ignored stand for a commit that broke the model.
ZEROED = """
import torch
from hahbench.models.vgg import vgg16

def zeroed(**params):
    network = vgg16(**params)
    network.register_forward_hook(lambda module, inputs, logits: 0 * logits + torch.arange(10.0))
    return network

def detached(**params):
    network = vgg16(**params)
    network.register_forward_pre_hook(lambda module, inputs: (inputs[0].round(decimals=2),))
    return network
"""
OWN_TESTS = """
import pytest
import torch
from hahbench.catalog import find_model
from hahbench.errors import HahbenchError
from hahbench.models.load import load_model

def test_holds(robustness):
    robustness("Standard", n=20).under("gaussian-noise", 0.02).at_least(0.5)

def test_fails(robustness):
    robustness("Standard", n=20).under("gaussian-noise", 0.3).at_least(0.9)

def test_norms(robustness):
    robustness("Standard", n=12).under("fmn-linf").at_least(1e-5)

def test_a_module_stays_as_it_was(robustness):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10)).train()
    measured = robustness(module, n=10).under("linf", 2 / 255)
    assert (measured.metric, measured.n) == ("accuracy", 10)
    assert module.training
    assert all(parameter.requires_grad for parameter in module.parameters())

class Rounded(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = load_model(find_model("shapes/Standard"))

    def forward(self, images):
        return self.network((images * 16).round() / 16)

def test_masked_gradients_are_no_robustness(robustness):
    with pytest.warns(UserWarning, match="Rounded, APGD l_inf 2/255: suspect: "):
        robustness(Rounded(), n=12).under("apgd-linf", 2 / 255).at_least(0.1)

def test_an_accuracy_in_percent_is_refused(robustness):
    with pytest.raises(HahbenchError, match="allowed: an accuracy above 0 and up to 1"):
        robustness("Standard", n=10).under("gaussian-noise", 0.02).at_least(60)

def test_a_floor_that_always_holds_is_refused(robustness):
    with pytest.raises(HahbenchError, match="allowed: an accuracy above 0 and up to 1"):
        robustness("Standard", n=10).under("gaussian-noise", "0.5/25").at_least(0)

def test_what_there_is_not(robustness):
    with pytest.raises(HahbenchError, match="needs a level"):
        robustness("Standard").under("gaussian-noise")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    files = {
        "suite.toml": SUITE,
        "noise.toml": 'kind = "gaussian-noise"\nlevels = [0.05, 0.1]',
        "pgd.toml": 'kind = "pgd"\nnorm = "linf"\nlevels = [0.03]\n[params]\nsteps = 5',
        "off.toml": OFF,
        "masked.toml": OFF.replace("zeroed:zeroed", "zeroed:detached"),
        "zeroed.py": ZEROED,
        "test_own.py": OWN_TESTS,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    for arguments in (["run", "suite.toml", "--store", "store"], ["baseline", "--store", "store", "--out", "b.json"]):
        subprocess.run([sys.executable, "-m", "hahbench", *arguments], cwd=folder, check=True, capture_output=True)
    return folder


def run_pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Named instead of found, so that it does not matter whether the entry point is installed."""
    plugins = ["-p", "hahbench.pytest_plugin", "-p", "xdist.plugin", "-p", "no:cacheprovider"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", *plugins, *arguments],
        cwd=project,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )


def counts(output: str) -> dict[str, int]:
    return {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error)", output.splitlines()[-1])}


def test_the_wheel_names_the_plug_in() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"hahbench": "hahbench.pytest_plugin"}
    assert callable(import_attribute("hahbench.pytest_plugin:pytest_addoption"))


def test_without_the_option_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\ndef test_nothing():\n"
        "    assert not {'torch', 'numpy', 'pandas', 'rich', 'hahbench.run', 'hahbench.regress'} & set(sys.modules)\n"
    )
    done = run_pytest(tmp_path, "-q")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("processes", ["0", "2"])
def test_every_cell_is_a_test(project: Path, processes: str) -> None:
    done = run_pytest(project, "--hahbench-baseline", "b.json", "-v", "-n", processes, "b.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout) == {"passed": 4}
    for name in ("Clean", "noise 0.05", "noise 0.1"):
        assert f"b.json::shapes/Standard {name}" in done.stdout


def test_a_baseline_may_lie_behind_a_link(project: Path) -> None:
    (project / "link").symlink_to(project, target_is_directory=True)
    done = run_pytest(project, "--hahbench-baseline", "link/b.json", "link/b.json", "-k", "Clean")
    (project / "link").unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(done.stdout) == {"passed": 1}


def test_a_cell_that_is_worse_fails_with_a_table(project: Path) -> None:
    options = ["--hahbench-model", "off.toml", "--hahbench-store", "kept"]
    done = run_pytest(project, "--hahbench-baseline", "b.json", *options, "-k", "Clean or noise")
    assert done.returncode == 1
    assert counts(done.stdout) == {"failed": 3}
    assert re.search(r"Baseline +100\.0 \[88\.6, 100\.0\]\n +Now +\d", done.stdout)
    assert re.search(r"Verdict +worse", done.stdout)
    assert "Traceback" not in done.stdout
    assert len(list((project / "kept").glob("*.parquet"))) == 3


def test_a_score_that_comes_into_doubt_fails(project: Path) -> None:
    """An attack by gradients that there are none of leaves each sample robust."""
    options = ["--hahbench-model", "masked.toml", "-k", "pgd or Clean"]
    done = run_pytest(project, "--hahbench-baseline", "b.json", *options)
    assert counts(done.stdout) == {"passed": 1, "failed": 1}, done.stdout
    assert "suspect: the attack may have come to fail, and hide a loss" in done.stdout
    assert re.search(r"Verdict +\w+.*, suspect: ", done.stdout)
    assert "Traceback" not in done.stdout


def test_what_cannot_be_checked_is_one_line(project: Path) -> None:
    (project / "cut.json").write_text((project / "b.json").read_text()[:-100])
    done = run_pytest(project, "--hahbench-baseline", "cut.json", "cut.json", "-q")
    assert done.returncode == 2
    assert "is no baseline, or truncated" in done.stdout
    assert "Traceback" not in done.stdout


def test_assertions_on_robustness_in_ones_own_tests(project: Path) -> None:
    done = run_pytest(project, "test_own.py")
    assert done.returncode == 1
    assert counts(done.stdout) == {"passed": 7, "failed": 1}, done.stdout
    assert re.search(
        r"AssertionError: shapes/Standard, Gaussian noise sigma 0\.3: [\d.]+ \[[\d.]+, [\d.]+\] on 20 samples; "
        r"the lower end of the 95 % interval is to be 90\.0 or more",
        done.stdout,
    )
    assert "def at_least" not in done.stdout
