"""The package as its users install it: a wheel, away from the checkout, with another package that plugs into it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLUGIN = {
    "pyproject.toml": """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "their-package"
version = "1.0"
[project.entry-points."hahbench.models"]
their-model = "their_package:their_model"
taken-by-nobody = "their_package:no_such_function"
Standard = "their_package:their_model"
""",
    "their_package/__init__.py": """
import torch

def their_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
""",
}


def pip_install(target: Path, what: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(target), str(what)], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel and the plug-in in it."""
    folder = tmp_path_factory.mktemp("installed")
    project = tmp_path_factory.mktemp("plugin")
    for name, text in PLUGIN.items():
        path = project / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    pip_install(folder, wheel)
    pip_install(folder, project)
    return folder


def hahbench(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Site folders named here are searched without their .pth files, so an editable install stays out of sight.
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib")])
    command = [sys.executable, "-S", "-m", "hahbench", *arguments]
    return subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)


def test_hahbench_is_the_wheels_only_top_level_package(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"hahbench"}


def test_the_wheel_holds_cards_weights_attacks_suites_and_published_numbers(wheel: Path) -> None:
    inside = {name.removeprefix("hahbench/catalog_data/") for name in zipfile.ZipFile(wheel).namelist()}
    shipped = [
        path.relative_to(ROOT).as_posix()
        for folder, pattern in [("models", "*.toml"), ("models", "*.safetensors"), ("attacks", "*.toml")]
        for path in (ROOT / folder).rglob(pattern)
    ]
    assert len(shipped) > 20
    assert set(shipped) <= inside
    assert {"reports/published/hah-2022.toml", "reports/schema/leaderboard.schema.json"} <= inside


def test_the_wheel_runs_the_embedded_suite(installed: Path, tmp_path: Path) -> None:
    done = hahbench(installed, tmp_path, "run", "quick", "--model", "Standard", "--n", "6", "--store", "store")
    assert done.returncode == 0, done.stderr
    done = hahbench(installed, tmp_path, "report", "--store", "store", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "Standard" in (tmp_path / done.stdout.splitlines()[0]).read_text()
    assert len(list(tmp_path.glob("out/*/leaderboard.html"))) == 1
    assert len(list(tmp_path.glob("out/*/models/Standard-*.html"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


# The fourth way to register a model; the other three stand in test_catalog.py.


def test_way_4_an_installed_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "clean.toml").write_text('dataset = "shapes"\nn = 20\nmodels = ["their-model"]\nattacks = ["clean"]')
    done = hahbench(installed, tmp_path, "run", "clean.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["model"] == "their-model"


def test_a_faulty_plugin_is_reported_when_it_is_asked_for(installed: Path, tmp_path: Path) -> None:
    listed = hahbench(installed, tmp_path, "models")
    assert listed.returncode == 0
    assert "taken-by-nobody" in listed.stdout
    assert (
        "plug-in 'their_package:their_model' of their-package is skipped: model 'Standard' is registered already"
        in listed.stderr
    )
    asked = hahbench(installed, tmp_path, "run", "quick", "--model", "taken-by-nobody")
    assert asked.returncode == 2
    assert "module 'their_package' has no attribute 'no_such_function'" in asked.stderr
