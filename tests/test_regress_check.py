"""Baselines of real runs, checked again: as a user does it, on a network small enough for seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hahbench.data import load_images
from hahbench.regress.baseline import read_baseline
from hahbench.regress.sequential import attack_order
from hahbench.store import Store
from tests.command import run_command

Run = Callable[..., tuple[int, str, str]]

SUITE = """
dataset = "shapes"
n = 40
models = ["Standard"]
attacks = ["clean", "noise.toml", "fmn.toml"]
"""
ATTACKS = {
    "noise.toml": 'kind = "gaussian-noise"\nlevels = [0.05, 0.1]\ndraws = 2',
    "fmn.toml": 'kind = "fmn"\nnorm = "linf"\n[params]\nsteps = 10',
}
OFF = 'base = "shapes/Standard"\nname = "shapes/Standard"\nloader = "off:constant"\n'
ELSEWHERE = 'base = "shapes/Standard"\nname = "shapes/Standard"\ndataset = "cifar10"\n'
BROKEN = """
import torch
from hahbench.models.vgg import vgg16

class Constant(torch.nn.Module):
    def __init__(self, **params):
        super().__init__()
        self.network = vgg16(**params)

    def forward(self, images):
        return 0 * self.network(images) + torch.arange(10.0)

    def load_state_dict(self, state, *args, **options):
        return self.network.load_state_dict(state, *args, **options)

    def state_dict(self, *args, **options):
        return self.network.state_dict(*args, **options)

def constant(**params):
    return Constant(**params)
"""

FOUR_DIGITS = """
import torch
from hahbench.data import ImageSet, register_dataset

@register_dataset("four")
def four(split, path):
    images = torch.arange(8 * 3 * 32 * 32).remainder(251).to(torch.uint8).reshape(8, 3, 32, 32)
    return ImageSet("four", split, "drawn", tuple("0123"), images, torch.arange(8) % 4)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, its baseline ``b.json``, and ``off.toml``, the same weights in a model that is broken."""
    folder = tmp_path_factory.mktemp("project")
    files = {"suite.toml": SUITE, "off.toml": OFF, "off.py": BROKEN, "elsewhere.toml": ELSEWHERE, **ATTACKS}
    for name, text in files.items():
        (folder / name).write_text(text)
    assert run_command("run", folder / "suite.toml", "--store", folder / "store") == 0
    assert run_command("baseline", "--store", folder / "store", "--out", folder / "b.json") == 0
    return folder


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(project)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = run_command(*arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_baseline_holds_what_the_store_holds(project: Path) -> None:
    baseline = read_baseline(project / "b.json")
    cells, outcomes = Store(project / "store").read()
    assert (baseline.data.argument, baseline.data.n, set(baseline.models)) == ("shapes", 40, {"shapes/Standard"})
    assert [(cell.attack.name, cell.level, cell.seeds) for cell in baseline.cells] == [
        ("clean", None, (0,)),
        ("fmn", None, (0,)),
        ("noise", 0.05, (0, 1)),
        ("noise", 0.1, (0, 1)),
    ]
    key = cells.query("attack == 'noise' and level == 0.1 and seed == 1")["key"].item()
    part = outcomes[outcomes["key"] == key].sort_values("index")
    assert baseline.cells[3].outcomes[1].tolist() == (part["adv_pred"] == part["label"]).tolist()
    fmn = outcomes[outcomes["key"] == cells.query("attack == 'fmn'")["key"].item()].sort_values("index")
    assert baseline.cells[1].outcomes[0].tolist() == pytest.approx(fmn["linf"].tolist(), rel=1e-6)


def test_only_the_models_and_attacks_that_are_asked_for_are_taken(run: Run) -> None:
    code, out, _ = run("baseline", "--store", "store", "--out", "few.json", "--attack", "clean")
    assert code == 0
    assert out == "few.json: 1 cells of 1 models, n = 40\n"
    code, _, error = run("baseline", "--store", "store", "--out", "few.json", "--attack", "claen")
    assert code == 2
    assert "holds no attack 'claen'; did you mean 'clean'?" in error


def test_the_same_models_are_the_same(run: Run, project: Path) -> None:
    code, out, _ = run("check", "--baseline", "b.json", "--store", "fresh", "--json")
    found = json.loads(out)
    assert code == 0
    assert [cell["verdict"] for cell in found["cells"]] == ["same"] * 4
    assert all(cell["change"] == 0 for cell in found["cells"])
    assert len(Store(project / "fresh").read()[0]) == 6


def test_a_reader_who_has_seen_enough_makes_no_regression(project: Path) -> None:
    command = [sys.executable, "-m", "hahbench", "check", "--baseline", "b.json", "--store", "store"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as checking:
        assert checking.stdout is not None
        checking.stdout.close()
    assert checking.returncode == 0


def test_infinity_is_shown_in_encodings_that_lack_it(run: Run) -> None:
    """A single step breaks nothing, so that the median norm is infinite; redirected output has cp1252 on Windows."""
    Path("feeble.toml").write_text('kind = "fmn"\nnorm = "linf"\n[params]\nsteps = 1')
    Path("weak.toml").write_text('dataset = "shapes"\nn = 8\nmodels = ["Standard"]\nattacks = ["feeble.toml"]')
    assert run("run", "weak.toml", "--store", "weak")[0] == 0
    assert run("baseline", "--store", "weak", "--out", "infinite.json")[0] == 0
    command = [sys.executable, "-m", "hahbench", "check", "--baseline", "infinite.json", "--store", "weak"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    checked = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    assert checked.returncode == 0, checked.stderr
    assert " ? " in checked.stdout.decode("cp1252")


def test_what_the_store_holds_is_not_run_again(run: Run) -> None:
    code, _, error = run("check", "--baseline", "b.json", "--store", "store")
    assert code == 0
    assert "0 cells to run, 6 in the store already" in error


def test_other_seeds_are_other_draws_of_the_same(run: Run) -> None:
    code, out, _ = run("check", "--baseline", "b.json", "--store", "seeds", "--seed", 7, "--json")
    cells = json.loads(out)["cells"]
    assert code == 0
    assert "worse" not in [cell["verdict"] for cell in cells]
    assert any(cell["lost"] + cell["gained"] for cell in cells)
    # Not among those of suites, whose scores would be of more draws for this model than for others.
    assert not list(Path("seeds").glob("*.parquet"))
    assert set(Store(Path("seeds/check-seed-7")).read()[0]["seed"]) == {7, 8}


@pytest.mark.parametrize("budget", [[], ["--budget", 60]])
def test_a_planted_regression_is_caught_and_reported_everywhere(run: Run, budget: list[object]) -> None:
    files = ["--markdown", "m.md", "--junit", "j.xml", "--github"]
    code, out, _ = run("check", "--baseline", "b.json", "--model", "off.toml", "--store", "off", *files, *budget)
    assert code == 1
    assert "4 worse" in out
    assert out.count("::error title=shapes/Standard is less robust::") == 4
    assert Path("m.md").read_text().count(" worse ") == 4
    assert ElementTree.parse("j.xml").getroot().get("failures") == "4"


def test_a_check_that_cannot_be_made_leaves_no_page_of_an_earlier_one(run: Run) -> None:
    files = ["--markdown", "kept.md", "--junit", "kept.xml", "--github"]
    assert run("check", "--baseline", "b.json", "--store", "store", *files)[0] == 0
    assert ElementTree.parse("kept.xml").getroot().get("errors") == "0"
    code, out, error = run("check", "--baseline", "b.json", "--store", "store", "--model", "no.toml", *files)
    assert code == 2
    why = error.removeprefix("hahbench: ").strip()
    assert "no.toml" in why
    assert out == f"::error title=hahbench check could not be made::{why}\n"
    suite = ElementTree.parse("kept.xml").getroot()
    assert [(case.get("name"), case.find("error").get("message")) for case in suite] == [("b.json", why)]  # type: ignore[union-attr]
    assert why in Path("kept.md").read_text()


LEAVING = """
import sys
from hahbench.models.vgg import VGG, vgg16

class Leaving(VGG):
    def forward(self, images):
        if len(images) > 1:
            LEAVE
        return super().forward(images)

def leaving(**params):
    network = vgg16(**params)
    network.__class__ = Leaving
    return network
"""


@pytest.mark.parametrize(
    ("name", "leave"), [("leave_0", "sys.exit(0)"), ("leave_1", "sys.exit(1)"), ("leave_at_end", "raise EOFError")]
)
def test_a_model_that_ends_the_process_is_neither_fine_nor_a_regression(run: Run, name: str, leave: str) -> None:
    Path(f"{name}.py").write_text(LEAVING.replace("LEAVE", leave))
    Path(f"{name}.toml").write_text(OFF.replace("off:constant", f"{name}:leaving"))
    model = ["--model", f"{name}.toml"]
    code, _, error = run("check", "--baseline", "b.json", *model, "--store", name, "--junit", "l.xml")
    assert code == 2
    assert error.splitlines()[-1].startswith("hahbench: ")
    assert ElementTree.parse("l.xml").getroot().get("errors") == "1"


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit(1), EOFError(), OSError(5, "input/output error")])
def test_whatever_a_check_ends_in_is_not_taken_for_an_outcome(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def end(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("hahbench.regress.report.make_report", end)
    code, out, said = run("check", "--baseline", "b.json")
    assert (code, out) == (2, "")
    assert said.startswith("hahbench: b.json: could not be checked: ")


@pytest.mark.parametrize("closed", ["from the start", "by its reader"])
@pytest.mark.parametrize("baseline", ["b.json", "no-such.json"])
def test_results_that_nobody_reads_leave_the_exit_code_as_it_is(project: Path, closed: str, baseline: str) -> None:
    command = [sys.executable, "-m", "hahbench", "check", "--baseline", baseline, "--store", "store", "--github"]
    expected = 0 if baseline == "b.json" else 2
    if closed == "from the start":
        shell = ["sh", "-c", '"$@" >&-', "sh", *command]
        assert subprocess.run(shell, cwd=project, stderr=subprocess.DEVNULL, check=False).returncode == expected
        return
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as checking:
        assert checking.stdout is not None
        checking.stdout.close()
    assert checking.returncode == expected


def test_a_log_that_nobody_reads_makes_no_regression(project: Path) -> None:
    command = [sys.executable, "-m", "hahbench", "check", "--baseline", "b.json", "--store", "unread"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as checking:
        assert checking.stderr is not None
        checking.stderr.close()
    assert checking.returncode in (0, 2)


TALKATIVE = """
from hahbench.models.vgg import VGG, vgg16

print("imported")

class Talkative(VGG):
    def forward(self, images):
        print(images.shape)
        return super().forward(images)

def talkative(**params):
    network = vgg16(**params)
    network.__class__ = Talkative
    return network
"""


def test_what_a_model_prints_is_not_among_results(run: Run) -> None:
    Path("talk.py").write_text(TALKATIVE)
    Path("talk.toml").write_text(OFF.replace("off:constant", "talk:talkative"))
    model = ["--model", "talk.toml"]
    code, out, error = run("run", "suite.toml", *model, "--n", 2, "--store", "talk", "--json")
    assert code == 0
    assert {row["model"] for row in json.loads(out)} == {"shapes/Standard"}
    assert "torch.Size" in error
    assert run("baseline", "--store", "talk", "--out", "talk.json")[1] == "talk.json: 4 cells of 1 models, n = 2\n"
    for budget in ([], ["--budget", 60]):
        _, out, _ = run("check", "--baseline", "talk.json", *model, "--store", "talk-again", "--json", *budget)
        assert len(json.loads(out)["cells"]) == 4


def test_within_a_budget_the_whole_of_a_cell_gives_the_same_as_without(run: Run) -> None:
    code, out, said = run("check", "--baseline", "b.json", "--store", "unused", "--budget", 300, "--json")
    found = json.loads(out)
    assert code == 0
    assert [(cell["verdict"], cell["n"]) for cell in found["cells"]] == [("same", 40)] * 4
    assert "FMN" not in said
    assert "fmn, median norm: 40 of 40 samples" in said
    assert not Path("unused").exists()


def test_a_budget_that_is_spent_skips_and_says_what(run: Run) -> None:
    started = time.monotonic()
    code, out, _ = run("check", "--baseline", "b.json", "--store", "unused", "--budget", 0.001)
    assert code == 2
    assert time.monotonic() - started < 30
    assert "samples skipped: shapes/Standard, Clean: 40 of 40; " in out


HELD_UP = """
import time
from hahbench.models.vgg import VGG, vgg16

class HeldUp(VGG):
    def forward(self, images):
        is_noisy = (images[..., 1:] - images[..., :-1]).abs().mean() > 0.1
        time.sleep(4 if is_noisy and len(images) == 40 else 0)
        return super().forward(images)

def held_up(**params):
    network = vgg16(**params)
    network.__class__ = HeldUp
    return network
"""


def test_within_a_budget_a_pass_that_was_held_up_takes_nothing_from_the_others(run: Run) -> None:
    """Were each of FMN's 21 passes to take as long as those under the strongest noise, 8 samples would take 17 s."""
    Path("held.py").write_text(HELD_UP)
    Path("held.toml").write_text(OFF.replace("off:constant", "held:held_up"))
    code, out, error = run("check", "--baseline", "b.json", "--model", "held.toml", "--store", "unused", "--budget", 30)
    assert code == 0, out + error


def test_a_broken_floor_is_a_regression(run: Run) -> None:
    floor = '[[expect]]\nmodel = "Standard"\nattack = "noise"\nlevel = 0.1\nmin = {}\n'
    for least, code, word in (("0.99", 1, "broken"), ("0.05", 0, "held")):
        Path("floors.toml").write_text(floor.format(least))
        found, out, _ = run("check", "--baseline", "b.json", "--store", "store", "--expect", "floors.toml")
        assert found == code
        assert word in out


def test_within_a_budget_a_floor_is_measured_until_it_is_decided(run: Run) -> None:
    # On the first 32 samples the interval is too wide for a floor that all 40 hold, or break.
    accuracy = run("check", "--baseline", "b.json", "--store", "store", "--json")[1]
    cell = next(cell for cell in json.loads(accuracy)["cells"] if cell["attack"] == "fmn")
    low = cell["now"][1]
    floor = f'[[expect]]\nmodel = "shapes/Standard"\nattack = "fmn"\nmin = {low}\n'
    Path("floors.toml").write_text(floor)
    # 32 unchanged samples exclude a drop of nine tenths.
    arguments = ["--baseline", "b.json", "--store", "unused", "--budget", 60, "--tolerance", 0.9]
    assert "fmn, median norm: 8 of 40" in run("check", *arguments)[1]
    code, out, _ = run("check", *arguments, "--expect", "floors.toml")
    assert code == 0
    assert "1 of 1 floors hold" in out


def retrained(folder: Path) -> str:
    """A module of the shipped network whose weights a commit changed; its card and its name stayed."""
    (folder / "mine.py").write_text(
        "import pathlib, torch, hahbench\nfrom hahbench.models.vgg import vgg16\n"
        "@hahbench.register_model('mine')\n"
        "def mine():\n"
        "    torch.manual_seed(int(pathlib.Path(__file__).with_name('seed').read_text()))\n"
        "    return vgg16(width=0.02)\n"
    )
    return str(folder / "mine.py")


def test_other_weights_under_the_same_name_are_refused_unless_they_are_what_is_checked(run: Run, project: Path) -> None:
    mine = retrained(project)
    (project / "seed").write_text("0")
    (project / "clean.toml").write_text('dataset = "shapes"\nn = 8\nmodels = []\nattacks = ["clean"]')
    assert run("run", "clean.toml", "--model", mine, "--store", "mine")[0] == 0
    assert run("baseline", "--store", "mine", "--out", "mine.json")[0] == 0
    assert run("check", "--baseline", "mine.json", "--store", "mine")[0] == 0
    (project / "seed").write_text("1")
    code, out, error = run("check", "--baseline", "mine.json", "--store", "mine")
    assert (code, out) == (2, "")
    assert len(error.splitlines()) == 1
    assert "model 'mine' has other weights (" in error
    assert f"'--model {mine}' compares them all the same" in error
    code, out, _ = run("check", "--baseline", "mine.json", "--store", "mine", "--model", mine)
    assert code in (0, 1)
    assert "mine" in out
    code, out, error = run("baseline", "--store", "mine", "--out", "mine.json", "--model", "mine", "--attack", "clean")
    assert code == 0


def test_a_change_that_was_taken_back_leaves_a_baseline_of_what_there_is(run: Run, project: Path) -> None:
    mine = retrained(project)
    (project / "clean.toml").write_text('dataset = "shapes"\nn = 8\nmodels = []\nattacks = ["clean"]')
    files = []
    for seed in ("0", "1", "0"):
        (project / "seed").write_text(seed)
        assert run("run", "clean.toml", "--model", mine, "--store", "reverted")[0] == 0
        assert run("baseline", "--store", "reverted", "--out", "reverted.json")[0] == 0
        files.append(read_baseline(project / "reverted.json").models["mine"].weights)
    assert files[0] == files[2] != files[1]


MASKED = """
from hahbench.models.vgg import vgg16

def rounded(**params):
    network = vgg16(**params)
    network.standardize.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 255).round() / 255)
    return network
"""


def masked_card(folder: Path, module: str) -> Path:
    """Of Standard with masked gradients; a process imports one module of a name."""
    (folder / f"{module}.py").write_text(MASKED)
    card = folder / "masked.toml"
    card.write_text('base = "shapes/Standard"\nname = "shapes/Standard"\nloader = "' + module + ':rounded"\n')
    return card


@pytest.mark.parametrize("budget", [[], ["--budget", 600]])
@pytest.mark.parametrize(
    ("name", "attack", "doubt"),
    [
        ("pgd", 'kind = "pgd"\nnorm = "linf"\nlevels = [0.03]\n[params]\nsteps = 5\n', "the gradient of "),
        ("fmn", 'kind = "fmn"\nnorm = "l2"\n[params]\nsteps = 30\n', "samples were not broken at any distance"),
    ],
)
def test_a_gain_by_masked_gradients_does_not_pass(
    run: Run, tmp_path: Path, budget: list[object], name: str, attack: str, doubt: str
) -> None:
    file = tmp_path / f"{name}.toml"
    file.write_text(attack)
    (tmp_path / "suite.toml").write_text(
        f'dataset = "shapes"\nn = 60\nmodels = ["Standard"]\nattacks = ["clean", "{file}"]'
    )
    card = masked_card(tmp_path, f"masked_{name}_{len(budget)}")
    baseline, store = tmp_path / "b.json", tmp_path / "store"
    assert run("run", tmp_path / "suite.toml", "--store", store)[0] == 0
    assert run("baseline", "--store", store, "--out", baseline)[0] == 0
    code, out, error = run("check", "--baseline", baseline, "--store", store, "--model", card, "--json", *budget)
    assert out, error
    found = {cell["attack"]: cell for cell in json.loads(out)["cells"]}
    assert found[name]["verdict"] == "better"
    assert doubt in found[name]["doubt"]
    assert code == 2


@pytest.mark.parametrize("budget", [[], ["--budget", 600]])
def test_a_score_that_comes_into_doubt_does_not_pass_though_it_is_no_gain(
    run: Run, tmp_path: Path, budget: list[object]
) -> None:
    """Of 8 samples no gain is significant; what is as doubtful as it was does pass."""
    (tmp_path / "pgd.toml").write_text('kind = "pgd"\nnorm = "linf"\nlevels = [0.03]\n[params]\nsteps = 5\n')
    (tmp_path / "suite.toml").write_text(
        f'dataset = "shapes"\nn = 8\nmodels = ["Standard"]\nattacks = ["clean", "{tmp_path / "pgd.toml"}"]'
    )
    card = masked_card(tmp_path, f"masked_few_{len(budget)}")
    verdicts = {}
    for measured in ("Standard", str(card)):
        store, baseline = tmp_path / f"store of {Path(measured).stem}", tmp_path / "b.json"
        assert run("run", tmp_path / "suite.toml", "--model", measured, "--store", store)[0] == 0
        assert run("baseline", "--store", store, "--out", baseline)[0] == 0
        code, out, _ = run("check", "--baseline", baseline, "--store", store, "--model", card, "--json", *budget)
        verdicts[measured] = code, *((cell["verdict"], bool(cell["doubt"])) for cell in json.loads(out)["cells"])
    clean = ("same", False)
    assert verdicts == {"Standard": (2, clean, ("inconclusive", True)), str(card): (0, clean, ("same", True))}


def other_data(text: str) -> str:
    found = json.loads(text)
    found["data"]["digest"] = "0" * 64
    return resealed(found)


def other_version(text: str) -> str:
    found = json.loads(text)
    found["attacks"]["fmn"]["version"] = "0, judge 0"
    return resealed(found)


def resealed(found: dict[str, object]) -> str:
    from hahbench.spec import digest

    cells = found.pop("cells")
    found.pop("digest")
    return json.dumps({**found, "cells": cells, "digest": digest(found, cells)})


@pytest.mark.parametrize(
    ("edit", "arguments", "message"),
    [
        (other_data, [], "the baseline is of the first 40 samples of 'shapes' (drawn), digest 00000000; 'shapes'"),
        (other_version, [], "attack 'fmn' has version "),
        (lambda text: text[:-200], [], "is no baseline, or truncated"),
        (lambda text: text.replace('"schema": 1', '"schema": 9'), [], "has schema 9; this hahbench"),
        (str, ["--model", "elsewhere.toml"], "model 'shapes/Standard' was trained on 'cifar10', not on 'shapes'"),
        (str, ["--model", "elsewhere.toml", "--budget", 30], "model 'shapes/Standard' was trained on 'cifar10'"),
        (str, ["--model", "HaH"], "model 'shapes/HaH' is not in the baseline; did you mean 'shapes/Standard'"),
        (str, ["--alpha", 2], "alpha = 2.0; allowed: a probability"),
        (str, ["--budget", "inf"], "budget = inf; allowed: a number of seconds"),
        (str, ["--budget", "nan"], "budget = nan; allowed: a number of seconds"),
        (str, ["--budget", 0], "budget = 0.0; allowed: a number of seconds"),
        (str, ["--expect", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_exit_code_2(
    run: Run, project: Path, edit: Callable[[str], str], arguments: list[object], message: str
) -> None:
    (project / "edited.json").write_text(edit((project / "b.json").read_text()))
    code, out, error = run("check", "--baseline", "edited.json", "--store", "store", *arguments)
    assert (code, out) == (2, "")
    assert len(error.splitlines()) == 1
    assert message in error


def test_a_library_s_model_keeps_the_number_of_classes_it_was_measured_with(tmp_path: Path, run: Run) -> None:
    (tmp_path / "digits.py").write_text(FOUR_DIGITS)
    dataset = f"{tmp_path / 'digits.py'}:four"
    (tmp_path / "suite.toml").write_text(
        f'dataset = "{dataset}"\nn = 4\nmodels = ["torchvision:squeezenet1_1"]\nattacks = ["clean"]\n'
    )
    store, baseline = tmp_path / "store", tmp_path / "b.json"
    assert run("run", tmp_path / "suite.toml", "--store", store)[0] == 0
    assert run("baseline", "--store", store, "--out", baseline)[0] == 0
    assert run("check", "--baseline", baseline, "--store", store)[0] == 0


def test_cells_that_could_never_fail_are_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "suite.toml").write_text('dataset = "shapes"\nn = 5\nmodels = ["Standard"]\nattacks = ["clean"]')
    assert run("run", tmp_path / "suite.toml", "--store", tmp_path / "store")[0] == 0
    code, _, error = run("baseline", "--store", tmp_path / "store", "--out", tmp_path / "b.json")
    assert code == 0
    assert "a check of all 1 cells can never call these worse, as too few samples are robust: shapes/Standard" in error


def test_the_order_of_attack_is_fixed_and_mixes_classes() -> None:
    labels = load_images("shapes", "test", None).labels.numpy()
    assert len(set(labels[attack_order(200)][:32])) >= 8
