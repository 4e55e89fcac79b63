"""The runner on real attacks and a small untrained network."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from hahbench import catalog
from hahbench.attacks.noise import GaussianNoise
from hahbench.attacks.pgd import ProjectedGradientDescent
from hahbench.data import ImageSet, load_images
from hahbench.errors import HahbenchError
from hahbench.models.load import load_model
from hahbench.models.vgg import vgg16
from hahbench.outcome import Candidates, Samples
from hahbench.plan import Job
from hahbench.run import Observer, Part, run
from hahbench.spec import AttackSpec, Cell, Exhibit, ModelCard
from hahbench.store import Store

MODEL = """
import torch
from hahbench import register_model

@register_model("tiny")
def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5, 4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(196, 10)
    )
"""
GREY = """
import torch
from hahbench import register_model

@register_model("grey")
def grey() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
"""
SUITE = """
dataset = "shapes"
n = 24
models = []
attacks = ["clean", "gaussian-noise", "fmn-linf", "fmn-l2"]
"""
CELLS = 1 + 3 * 7 + 1 + 1


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(MODEL)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path


def start(project: Path, store: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hahbench", "run", "suite.toml", "--model", "own.py", "--store", store]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=project, env=environment, text=True, stderr=subprocess.PIPE)


def cell_files(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in store.glob("*.parquet")}


class Silent:
    def planned(self, jobs: Sequence[Job], done: int) -> None: ...
    def started(self, job: Job) -> None: ...
    def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None: ...
    def warned(self, job: Job, message: str) -> None: ...
    def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None: ...
    def exhibited(self, exhibit: Exhibit, seconds: float) -> None: ...


def test_runs_that_share_a_store_share_the_work(tmp_path: Path) -> None:
    """A second run does the other cells while the first is in the middle of its first, and then waits for that."""
    store = Store(tmp_path)
    attacks = [AttackSpec("clean", "clean"), AttackSpec("noise", "gaussian-noise", levels=(0.1,), draws=2)]
    images = load_images("shapes", "test", None)
    untrained = ModelCard("untrained", "hahbench.models.vgg:vgg16", {"width": 0.02})

    def start_run(observer: Observer) -> list[Cell]:
        torch.manual_seed(0)
        options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
        return run([Part([untrained], attacks)], images, 4, store=store, observer=observer, **options)

    class Noting(Silent):
        def __init__(self) -> None:
            self.done: list[str] = []

        def started(self, job: Job) -> None:
            self.done.append(f"{job.cell.attack.name} {job.cell.seed}")

    second = Noting()

    class Overtaken(Noting):
        def started(self, job: Job) -> None:
            super().started(job)
            self.other = pool.submit(start_run, second)
            until = time.monotonic() + 60
            while len(cell_files(tmp_path)) < 2 and time.monotonic() < until:
                time.sleep(0.01)

    first = Overtaken()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        cells = start_run(first)
        assert first.other.result(60) == cells
    assert (first.done, second.done) == (["clean 0"], ["noise 0", "noise 1"])
    assert len(cell_files(tmp_path)) == 3
    assert not list(tmp_path.glob("*.lock"))


def test_samples_of_a_data_set_that_is_sorted_by_class_are_warned_of(tmp_path: Path) -> None:
    drawn = load_images("shapes", "test", None)
    order = drawn.labels.argsort(stable=True)
    images = ImageSet("tidy", "test", "drawn", drawn.classes, drawn.images[order], drawn.labels[order])
    part = Part([ModelCard("untrained", "hahbench.models.vgg:vgg16", {"width": 0.02})], [AttackSpec("clean", "clean")])
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    with pytest.warns(match=f"the first 8 samples of data set 'tidy' are of 1 of its {len(drawn.classes)} classes"):
        run([part], images, 8, store=Store(tmp_path), observer=Silent(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run([part], drawn, 8, store=Store(tmp_path), observer=Silent(), **options)


def test_a_cell_of_two_parts_is_run_once_and_told_once(tmp_path: Path) -> None:
    class Counting(Silent):
        def __init__(self) -> None:
            self.due, self.done = 0, list[str]()

        def planned(self, jobs: Sequence[Job], done: int) -> None:
            self.due = len(jobs)

        def finished(self, job: Job, outcomes: pd.DataFrame, seconds: float) -> None:
            self.done.append(job.cell.attack.name)

    card = catalog.models()["shapes/Standard"]
    clean, noise = AttackSpec("clean", "clean"), AttackSpec("noise", "gaussian-noise", levels=(0.1,))
    parts = [Part([card], [clean]), Part([card], [clean, noise])]
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    observer = Counting()
    cells = run(parts, load_images("shapes", "test", None), 4, store=Store(tmp_path), observer=observer, **options)
    assert (observer.due, observer.done) == (2, ["clean", "noise"])
    assert [cell.attack.name for cell in cells] == ["clean", "noise"]


def test_a_model_of_two_parts_is_made_ready_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def noting(card: ModelCard, classes: int) -> torch.nn.Module:
        loaded.append(card.name)
        return load_model(card, classes)

    monkeypatch.setattr("hahbench.plan.load_model", noting)
    card = catalog.models()["shapes/Standard"]
    renamed = dataclasses.replace(card, name="renamed")
    parts = [
        Part([card], [AttackSpec("clean", "clean")]),
        Part([renamed, dataclasses.replace(card)], [AttackSpec("noise", "gaussian-noise", levels=(0.1,))]),
    ]
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    store = Store(tmp_path)
    cells = run(parts, load_images("shapes", "test", None), 4, store=store, observer=Silent(), **options)
    assert loaded == ["shapes/Standard", "renamed"]
    assert [cell.model for cell in cells] == ["shapes/Standard", "renamed", "shapes/Standard"]
    assert {record.model for record in store.read_records()} == set(loaded)


@pytest.fixture(scope="module")
def of_grey_images(tmp_path_factory: pytest.TempPathFactory) -> list[ModelCard]:
    file = tmp_path_factory.mktemp("grey") / "grey.py"
    file.write_text(GREY)
    return catalog.resolve_models(str(file), "scans")


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (
            AttackSpec("fog", "corruption", levels=(1.0,), params={"corruption": "fog"}),
            "attack 'fog' on data set 'scans': corruptions need colour images, not images of 1 channels",
        ),
        (
            AttackSpec("whole", "autoattack", "linf", levels=(0.1,)),
            "attack 'whole' on data set 'scans': AutoAttack's member 'apgd-t' needs at least 4 classes",
        ),
    ],
)
def test_what_a_data_set_does_not_allow_is_said_before_the_first_cell(
    tmp_path: Path, of_grey_images: list[ModelCard], last: AttackSpec, message: str
) -> None:
    scans = ImageSet(
        "scans", "test", "drawn", ("0", "1"), torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 2
    )
    parts = [Part(of_grey_images, [AttackSpec("clean", "clean"), last])]
    options: dict[str, Any] = {"dataset_argument": "scans", "from_path": False, "device": torch.device("cpu")}
    with pytest.raises(HahbenchError, match=message):
        run(parts, scans, 4, store=Store(tmp_path / "store"), observer=Silent(), **options)
    assert not cell_files(tmp_path / "store")


def measured(
    store: Store, n: int, *attacks: AttackSpec, observer: Observer | None = None, **facts: Any
) -> pd.DataFrame:
    """Outcomes of a network on the first ``n`` samples, without their times; ``facts`` amend its card."""
    observer = observer or Silent()
    card = dataclasses.replace(catalog.models()["shapes/Standard"], **facts)
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    cells = run(
        [Part([card], attacks)], load_images("shapes", "test", None), n, store=store, observer=observer, **options
    )
    return store.read(cells)[1].drop(columns=["key", "seconds"])


@pytest.fixture
def one_thread() -> Iterator[None]:
    """With several, the passes that are spent on a sample before another attempt breaks it depend on who is faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_run_on_more_samples_attacks_only_those_that_are_new(tmp_path: Path) -> None:
    specs = [
        AttackSpec("clean", "clean"),
        AttackSpec("noise", "gaussian-noise", levels=(0.1, 0.2), draws=2),
        AttackSpec("fog", "corruption", levels=(3.0,), params={"corruption": "fog"}),
        AttackSpec("fmn", "fmn", "l2", params={"steps": 5}),
        AttackSpec("pgd", "pgd", "linf", (2 / 255,), params={"steps": 3}),
        AttackSpec("autoattack", "autoattack", "linf", (2 / 255,), params={"members": ["apgd-ce", "apgd-t"]}),
    ]
    grown, whole = Store(tmp_path / "grown"), Store(tmp_path / "whole")
    measured(grown, 6, *specs)
    pd.testing.assert_frame_equal(measured(grown, 10, *specs), measured(whole, 10, *specs))
    pd.testing.assert_frame_equal(measured(grown, 4, *specs), measured(Store(tmp_path / "few"), 4, *specs))
    cells = grown.read()[0]
    assert cells.groupby("n")["verdict"].agg(lambda verdicts: (verdicts != "").sum()).tolist() == [3, 3, 3]


@pytest.mark.usefixtures("one_thread")
def test_a_cell_that_was_stopped_goes_on_where_it_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 512 samples what was found is kept."""
    fgsm, n = AttackSpec("fgsm", "pgd", "linf", (2 / 255,), params={"steps": 1}), 600
    attack = ProjectedGradientDescent.__call__
    given: list[tuple[int, int]] = []
    told: list[float] = []

    def stopped(
        self: ProjectedGradientDescent, model: torch.nn.Module, samples: Samples, *arguments: Any
    ) -> Candidates:
        given.append((int(samples.index[0]), len(samples)))
        if len(given) == 2:
            raise KeyboardInterrupt
        return attack(self, model, samples, *arguments)

    class Told(Silent):
        def progress(self, job: Job, fraction: float, robust_accuracy: float) -> None:
            told.append(fraction)

    monkeypatch.setattr(ProjectedGradientDescent, "__call__", stopped)
    store = Store(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        measured(store, n, fgsm)
    assert not cell_files(store.folder)
    found = measured(store, n, fgsm, observer=Told())
    assert given == [(0, 512), (512, 88), (512, 88)]
    assert 512 / n <= min(told) <= max(told) == 1
    pd.testing.assert_frame_equal(found, measured(Store(tmp_path / "whole"), n, fgsm))
    assert store.read()[0]["n"].tolist() == [n]
    assert not list(store.folder.glob("unfinished/*"))


def test_no_sample_is_attacked_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[int]] = []
    attack = GaussianNoise.__call__

    def noting(self: GaussianNoise, model: torch.nn.Module, samples: Samples, *arguments: Any) -> Candidates:
        given.append(samples.index.tolist())
        return attack(self, model, samples, *arguments)

    monkeypatch.setattr(GaussianNoise, "__call__", noting)
    noise, store = AttackSpec("noise", "gaussian-noise", levels=(0.1,)), Store(tmp_path)
    for n in (4, 10, 6, 10, 12):
        measured(store, n, noise)
    assert given == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9], [10, 11]]
    monkeypatch.setattr("hahbench.__version__", "later")
    measured(store, 13, noise)
    measured(store, 5, noise)
    versions = store.read()[0].set_index("n")["versions"]
    assert versions[12].count("hahbench") == versions[5].count("hahbench") - 1 == 1
    assert "hahbench later, " in versions[13]
    # Another seed, another model and an attack that does not say that samples are independent have nothing to go by.
    given.clear()
    measured(store, 13, dataclasses.replace(noise, seed=1))
    measured(store, 13, noise, loader=rounded_input)
    monkeypatch.setattr(GaussianNoise, "per_sample", False)
    measured(store, 14, noise)
    assert [len(samples) for samples in given] == [13, 13, 14]
    # What a random model answered before says nothing of what it would answer now.
    monkeypatch.undo()
    monkeypatch.setattr(GaussianNoise, "__call__", noting)
    given.clear()
    for n in (4, 6):
        measured(store, n, noise, loader=Noisy, params={}, weights=None, train={})
    assert [len(samples) for samples in given] == [4, 6]


def quantised(straight_through: bool = False, **params: Any) -> torch.nn.Module:
    """Predicts otherwise where its gradients are said to be others, but not on images of 8 bits."""
    network = vgg16(**params)
    if not straight_through:
        network.standardize.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 255).round() / 255)
    return network


def test_what_needs_no_gradient_is_done_once_for_models_that_differ_in_gradients_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    attack = GaussianNoise.__call__

    def noting(self: GaussianNoise, model: torch.nn.Module, samples: Samples, *arguments: Any) -> Candidates:
        given.append(len(samples))
        return attack(self, model, samples, *arguments)

    def with_itself(model: str, store: Store, **facts: Any) -> pd.DataFrame:
        plain = dataclasses.replace(catalog.models()[model], **facts)
        params = {**plain.params, "straight_through": True}
        cards = [plain, dataclasses.replace(plain, name="adapted", params=params)]
        specs = [AttackSpec("noise", "gaussian-noise", levels=(0.1,)), AttackSpec("fgsm", "pgd", "linf", (0.03,))]
        images = load_images("shapes", "test", None)
        options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
        found, outcomes = store.read(run([Part(cards, specs)], images, 8, store=store, observer=Silent(), **options))
        return outcomes.merge(found[["key", "attack", "model"]], on="key")

    monkeypatch.setattr(GaussianNoise, "__call__", noting)
    outcomes = with_itself("shapes/HaH", Store(tmp_path / "HaH"))
    assert given == [8]
    noise, fgsm = (dict(list(outcomes[outcomes["attack"] == name].groupby("model"))) for name in ("noise", "fgsm"))
    assert noise["adapted"]["adv_pred"].tolist() == noise["shapes/HaH"]["adv_pred"].tolist()
    assert fgsm["adapted"]["linf"].tolist() != fgsm["shapes/HaH"]["linf"].tolist()
    with_itself("shapes/Standard", Store(tmp_path / "otherwise"), loader=quantised)
    assert given == [8, 8, 8]


@pytest.mark.parametrize("overwritten", ["images", "labels"])
def test_an_attack_that_writes_into_what_it_is_given_is_not_judged_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwritten: str
) -> None:
    def overwriting(self: GaussianNoise, model: torch.nn.Module, samples: Samples, *arguments: Any) -> Candidates:
        getattr(samples, overwritten).zero_()
        return Candidates.untold(samples.images, forwards=0, backwards=0)

    monkeypatch.setattr(GaussianNoise, "__call__", overwriting)
    with pytest.raises(HahbenchError, match="wrote into the images or labels that it was given; the cells finished"):
        measured(Store(tmp_path), 4, AttackSpec("noise", "gaussian-noise", levels=(0.1,)))


def test_a_robust_accuracy_has_a_verdict_and_each_broken_sample_a_member(tmp_path: Path) -> None:
    """The honest network beside one whose input is rounded, which leaves no gradient."""
    card = catalog.models()["shapes/Standard"]
    masked = dataclasses.replace(card, name="masked", loader=rounded_input)
    store = Store(tmp_path)
    attack = AttackSpec("apgd", "autoattack", "linf", (8 / 255,), {"members": ["apgd-ce", "square"]})
    said: list[str] = []

    class Listening(Silent):
        def warned(self, job: Job, message: str) -> None:
            said.append(f"{job.card.name}: {message}")

    images = load_images("shapes", "test", None)
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    specs = [AttackSpec("clean", "clean"), attack]
    run([Part([card, masked], specs)], images, 12, store=store, observer=Listening(), **options)

    cells, outcomes = store.read()
    verdicts = cells.set_index(["model", "attack"])["verdict"].to_dict()
    assert verdicts["shapes/Standard", "apgd"] == "ok"
    assert verdicts["shapes/Standard", "clean"] == verdicts["masked", "clean"] == ""
    assert verdicts["masked", "apgd"].startswith("suspect: ")
    assert "gradient" in verdicts["masked", "apgd"]
    assert said == [f"masked: {verdicts['masked', 'apgd']}"]
    members = outcomes.merge(cells[["key", "model", "attack"]], on="key").query("attack == 'apgd'")
    broken = (members["adv_pred"] != members["label"]) & (members["clean_pred"] == members["label"])
    assert set(members.loc[broken & (members["model"] == "shapes/Standard"), "member"]) == {"apgd-ce"}
    assert set(members.loc[broken & (members["model"] == "masked"), "member"]) == {"square"}
    assert (members.loc[~broken, "member"] == "").all()
    assert (members.loc[broken, "step"] > 0).all()
    assert (members["forwards"] >= members["backwards"]).all()


class Noisy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 10, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 30720).sin().view(10, -1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(images.flatten(1))
        return logits + 3 * torch.randn_like(logits)


def test_of_a_random_model_the_same_seed_gives_the_same_outcomes(tmp_path: Path) -> None:
    """Also where threads share the work, and where other cells were done before."""
    images = load_images("shapes", "test", None)
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}
    pgd = AttackSpec("pgd", "pgd", "linf", (0.02,), {"steps": 5})
    found = []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for number, specs in enumerate(([pgd], [AttackSpec("clean", "clean"), pgd])):
            torch.manual_seed(number)
            store = Store(tmp_path / str(number))
            cells = run(
                [Part([ModelCard("noisy", Noisy)], specs)], images, 64, store=store, observer=Silent(), **options
            )
            found.append(store.read(cells[-1:])[1].drop(columns=["key", "seconds"]))
    finally:
        torch.set_num_threads(threads)
    first, second = found
    pd.testing.assert_frame_equal(first, second)
    assert (found[0]["clean_pred"] == found[0]["label"]).any()


def test_a_verdict_that_a_stop_came_before_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    card = catalog.models()["shapes/Standard"]
    attack = AttackSpec("apgd", "autoattack", "linf", (8 / 255,), {"members": ["apgd-ce"]})
    images = load_images("shapes", "test", None)
    options: dict[str, Any] = {"dataset_argument": "shapes", "from_path": False, "device": torch.device("cpu")}

    def stopped(*_: object, **__: object) -> list[str]:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr("hahbench.attempt.diagnose", stopped)
        with pytest.raises(KeyboardInterrupt):
            run([Part([card], [attack])], images, 12, store=store, observer=Silent(), **options)
    before, found = store.read()
    assert before["verdict"].tolist() == [""]
    run([Part([card], [attack])], images, 12, store=store, observer=Silent(), **options)
    after, kept = store.read()
    assert after["verdict"].tolist() == ["ok"]
    pd.testing.assert_frame_equal(after.drop(columns="verdict"), before.drop(columns="verdict"))
    pd.testing.assert_frame_equal(kept, found)


def test_what_the_diagnostics_raise_is_a_verdict_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: object, **__: object) -> list[str]:
        raise RuntimeError("no kernel\n  for this device\n")

    monkeypatch.setattr("hahbench.attempt.diagnose", raising)
    store = Store(tmp_path)
    measured(store, 12, AttackSpec("fgsm", "pgd", "linf", (2 / 255,), {"steps": 1}))
    verdict = "suspect: the diagnostics raised RuntimeError: no kernel for this device"
    assert store.read()[0]["verdict"].tolist() == [verdict]


def rounded_input(**params: Any) -> torch.nn.Module:
    network = vgg16(**params)
    network.standardize.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 16).round() / 16)
    return network


def test_the_reference_engine_stands_beside_our_own(project: Path) -> None:
    suite = project / "attacks.toml"
    suite.write_text('dataset = "shapes"\nn = 3\nmodels = []\nattacks = ["clean", "fmn-linf"]\n')
    for engine in ("lanes", "reference"):
        command = [sys.executable, "-m", "hahbench", "run", "attacks.toml", "--model", "own.py", "--engine", engine]
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    cells, _ = Store(project / "results").read()
    found = cells.set_index("attack")[["kind", "attack_version"]].to_dict("index")
    assert set(found) == {"clean", "fmn-linf", "fmn-linf-reference"}
    assert found["fmn-linf-reference"]["kind"] == "fmn-reference"
    assert "foolbox" in found["fmn-linf-reference"]["attack_version"]


def test_a_killed_run_resumes_with_nothing_lost_and_nothing_done_twice(project: Path) -> None:
    interrupted = start(project, "killed")
    while len(cell_files(project / "killed")) < 5:
        assert interrupted.poll() is None, "finished before it was killed"
        time.sleep(0.005)
    interrupted.send_signal(signal.SIGKILL)
    interrupted.communicate()
    before = cell_files(project / "killed")
    assert 5 <= len(before) < CELLS

    resumed = start(project, "killed")
    _, said = resumed.communicate()
    assert resumed.returncode == 0, said
    assert f"{CELLS - len(before)} cells to run, {len(before)} in the store already" in said
    after = cell_files(project / "killed")
    assert len(after) == CELLS
    assert {name: after[name] for name in before} == before

    whole = start(project, "whole")
    whole.communicate()
    cells, rows = Store(project / "killed").read()
    cells_whole, rows_whole = Store(project / "whole").read()
    timing = ["seconds", "created"]
    pd.testing.assert_frame_equal(cells.drop(columns=timing), cells_whole.drop(columns=timing))
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), rows_whole.drop(columns="seconds"))
