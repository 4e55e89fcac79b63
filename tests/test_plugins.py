"""What installed packages add; one that is faulty is said in a line and takes nothing else down."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hahbench.attacks import ATTACK_KINDS
from hahbench.catalog import attacks, models
from hahbench.data import DATASETS
from hahbench.errors import HahbenchError, UnknownNameError
from hahbench.new_plugin import write_plugin
from hahbench.registry import Registry
from hahbench.reports.plugins import REPORTS
from tests.command import run_command

ROOT = Path(__file__).parent.parent
GROUP = "hahbench.things"

Run = Callable[..., tuple[int, str, str]]


def install(folder: Path, package: str, points: dict[str, dict[str, str]], code: str = "") -> None:
    """What pip leaves behind of a package: its metadata and a module of its name."""
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "\n".join(f"{name} = {path}" for name, path in named.items())
        for group, named in points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    (folder / f"{package}.py").write_text(code)


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[object]]:
    monkeypatch.syspath_prepend(tmp_path)

    def things(**packages: dict[str, str]) -> Registry[object]:
        """A registry for which these packages offer something; each has a module with ``thing``, named after itself."""
        for package, offered in packages.items():
            install(tmp_path, package, {GROUP: offered}, f"thing = {package!r}")
        importlib.invalidate_caches()
        registry: Registry[object] = Registry("thing", GROUP)
        registry.register("shipped", 1)
        return registry

    return things


def test_what_a_package_offers_is_found(things: Callable[..., Registry[object]]) -> None:
    registry = things(acme_one={"anvil": "acme_one:thing"})
    assert list(registry) == ["anvil", "shipped"]
    assert registry["anvil"] == "acme_one"


def test_of_two_packages_with_one_name_neither_hides_the_other(things: Callable[..., Registry[object]]) -> None:
    registry = things(
        acme_two={"anvil": "acme_two:thing", "rocket": "acme_two:thing"}, rival_two={"anvil": "rival_two:thing"}
    )
    both = "thing 'anvil' is offered by acme_two (acme_two:thing) and rival_two (rival_two:thing)"
    with pytest.warns(UserWarning, match=re.escape(f"plug-ins are skipped: {both}")):
        assert list(registry) == ["rocket", "shipped"]
    assert registry["rocket"] == "acme_two"
    with pytest.raises(HahbenchError, match=re.escape(f"{both}; uninstall all of these but one")):
        registry["anvil"]


def test_a_package_does_not_take_a_name_of_ours(things: Callable[..., Registry[object]]) -> None:
    registry = things(acme_three={"shipped": "acme_three:thing"})
    with pytest.warns(UserWarning, match="plug-in 'acme_three:thing' of acme_three is skipped: thing 'shipped' is"):
        assert registry["shipped"] == 1


@pytest.mark.parametrize("path", ["acme_four", "acme four:thing", ":thing", "acme_four:thing; import os"])
def test_a_malformed_entry_is_skipped(path: str, things: Callable[..., Registry[object]]) -> None:
    registry = things(acme_four={"broken": path, "whole": "acme_four:thing"})
    with pytest.warns(UserWarning, match="of acme_four is skipped: it must have the form 'module:attribute'"):
        assert list(registry) == ["shipped", "whole"]
    with pytest.raises(UnknownNameError):
        registry["broken"]


# --- the commands, with faulty packages installed ---------------------------------------------------------------------

FAULTY = """
raise RuntimeError("first line\\nsecond line")
"""
REPORTING = """
def report(cells, outcomes, folder):
    path = folder / "models.txt"
    path.write_text(" ".join(sorted(cells["model"].unique())))
    cells["model"] = "spoiled"
    return [path]

def failing(cells, outcomes, folder):
    return [cells["no such column"]]
"""
WHY = "'faulty:thing' cannot be imported: RuntimeError: first line second line"

GROUPS: dict[str, Registry[Any]] = {
    "hahbench.models": models(),
    "hahbench.datasets": DATASETS,
    "hahbench.attacks": attacks(),
    "hahbench.reports": REPORTS,
}


def see_again(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As in a process that starts with the packages of ``folder`` installed."""
    monkeypatch.syspath_prepend(folder)
    for group, registry in (*GROUPS.items(), ("hahbench.attacks", ATTACK_KINDS)):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_group", group)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    points = {group: {f"faulty-{group.partition('.')[2]}": "faulty:thing"} for group in GROUPS}
    install(folder, "faulty", points, FAULTY)
    install(folder, "exiting", {"hahbench.datasets": {"exiting": "exiting:thing"}}, "raise SystemExit('goodbye')")
    reports = {"a-good-one": "reporting:report", "failing": "reporting:failing", "last": "reporting:report"}
    install(folder, "reporting", {"hahbench.reports": reports}, REPORTING)
    see_again(monkeypatch, folder)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        # The filters of a process of its own.
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            code = run_command(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.mark.usefixtures("faulty")
def test_listings_say_what_is_faulty_and_show_the_rest(run: Run) -> None:
    code, out, _ = run("datasets", "--json")
    what = {row["name"]: row["what"] for row in json.loads(out)}
    assert code == 0
    assert what["faulty-datasets"] == f"cannot be used: {WHY}"
    assert what["exiting"] == "cannot be used: 'exiting:thing' cannot be imported: SystemExit: goodbye"
    assert what["shapes"].startswith("Drawn by hahbench itself")
    for listing in ("models", "attacks"):
        code, out, _ = run(listing, "--json")
        assert (code, f'"faulty-{listing}"' in out) == (0, True)


@pytest.mark.usefixtures("faulty")
def test_a_run_and_its_reports_go_on_without_what_is_faulty(run: Run, tmp_path: Path) -> None:
    suite, store, out = tmp_path / "suite.toml", tmp_path / "store", tmp_path / "out"
    suite.write_text('dataset = "shapes"\nn = 4\nmodels = ["Standard"]\nattacks = ["clean"]')
    assert run("run", suite, "--store", store)[0] == 0
    code, printed, said = run("report", "--store", store, "--out", out)
    assert code == 0
    assert [line for line in said.splitlines() if "is skipped" in line] == [
        "hahbench: warning: report 'failing' is skipped: KeyError: 'no such column'",
        f"hahbench: warning: report 'faulty-reports' is skipped: {WHY}",
    ]
    for name in ("a-good-one", "last"):
        path = out / name / "models.txt"
        assert str(path) in printed.splitlines()
        # What one report does to its table, the next does not see.
        assert path.read_text() == "shapes/Standard"


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize(
    "arguments",
    [("--model", "faulty-models"), ("--model", "Standard", "--dataset", "faulty-datasets")],
)
def test_what_is_faulty_is_an_error_for_who_asks_for_it(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, _, said = run("run", "quick", "--n", 4, "--store", tmp_path / "store", *arguments)
    assert code == 2
    assert said.splitlines()[-1].startswith("hahbench: ")
    assert said.splitlines()[-1].endswith(WHY)


# --- a package to start from ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    write_plugin("acme-attacks", folder)
    return folder / "acme-attacks"


@pytest.fixture(scope="module")
def installed(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    offline = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, "--target", target, written], check=True)
    return target


def test_the_new_package_is_named_throughout(written: Path) -> None:
    files = [path for path in written.rglob("*") if path.is_file()]
    assert {path.relative_to(written).as_posix() for path in files} == {
        "README.md",
        "pyproject.toml",
        "suite.toml",
        "uniform-noise-16.toml",
        "acme_attacks/__init__.py",
        "acme_attacks/attack.py",
        "acme_attacks/model.py",
        "tests/test_acme_attacks.py",
    }
    assert not any("my-plugin" in path.read_text() or "my_plugin" in path.read_text() for path in files)


def test_the_new_package_passes_its_own_tests(written: Path, installed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=written, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_the_new_package_appears_everywhere(
    written: Path, installed: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    see_again(monkeypatch, installed)
    for listing, name in (("models", "acme-attacks-network"), ("attacks", "acme-attacks-uniform-noise")):
        assert name in [row["name"] for row in json.loads(run(listing, "--json")[1])]
    code, out, said = run("run", written / "suite.toml", "--store", tmp_path, "--json")
    assert code == 0, said
    scored = {(score["model"], score["attack"]) for score in json.loads(out)}
    attacked = ("clean", "acme-attacks-uniform-noise", "uniform-noise-16")
    assert scored == {("acme-attacks-network", attack) for attack in attacked}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Acme", "allowed: small letters, digits and hyphens after a letter, but no keyword of Python, such as"),
        ("9a", "allowed: small letters, digits and hyphens after a letter"),
        ("../acme", "allowed: small letters"),
        ("class", "allowed: small letters"),
        ("json", "is that of a module 'json' that is there already"),
        ("hahbench", "is that of a module 'hahbench' that is there already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(HahbenchError, match=message):
        write_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "acme-nothing").mkdir()
    with pytest.raises(HahbenchError, match="acme-nothing: is there already"):
        write_plugin("acme-nothing", tmp_path)
    assert not list((tmp_path / "acme-nothing").iterdir())
