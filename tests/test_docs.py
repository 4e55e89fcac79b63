"""The examples of README and docs, run in the order in which they stand, on a few images."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import torchvision

from hahbench import cli
from hahbench.data.cifar10 import CLASSES
from tests.command import run_command

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FEW = {"--n": "2", "--epochs": "1", "--width": "0.05", "--budget": "600"}


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The language and the text of each fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield found[1], found[2]


def commands(text: str) -> list[list[str]]:
    """What follows each prompt, a backslash at the end of a line going on in the next."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def on_few_images(command: list[str], images: Path) -> list[str]:
    """A hahbench command with other numbers and paths, which it has or, for ``--n`` and ``--epochs``, takes."""
    told = [str(images) if word == "PATH" else word for word in command]
    for option, value in FEW.items():
        if option in told:
            told[told.index(option) + 1] = value
    needed = {"run": "--n", "train": "--epochs"}.get(told[1])
    if needed and needed not in told:
        told += [needed, FEW[needed]]
    return told


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, but for what the examples suppose to be there."""
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for name in CLASSES:
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                PIL.Image.fromarray(pixels).save(tmp_path / "images" / split / name / f"{i}.png")
    torch.manual_seed(0)
    for name in ("resnet18.pt", "mine.pt"):
        torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


RUN_PAGES = ["add-a-model.md", "attacks.md", "regenerate-the-paper.md", "guard-a-number.md", "results.md"]


@pytest.mark.parametrize("name", RUN_PAGES)
def test_the_examples_of_a_page_work_one_after_the_other(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "results.md":
        assert run_command("run", "quick", "--model", "Standard", "--n", "2") == 0
    for language, text in blocks(ROOT / "docs" / name):
        saved = re.match(r"# (\S+\.(?:py|toml))\n", text)
        if saved:
            (folder / saved[1]).parent.mkdir(exist_ok=True)
            (folder / saved[1]).write_text(text)
        elif language == "python" and name == "results.md":
            exec(compile(text, name, "exec"), {})
        elif language == "console":
            for command in commands(text):
                if command[0] == "hahbench":
                    told = on_few_images(command, folder / "images")
                    # On two images and after one epoch, 'check' may well find a regression.
                    allowed = (0, 1) if told[1] == "check" else (0,)
                    assert run_command(*told[1:]) in allowed, (told, capsys.readouterr())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists_with_its_options(page: Path) -> None:
    from typer.main import get_command

    known = get_command(cli.app).commands  # type: ignore[attr-defined]
    for language, text in blocks(page):
        for command in commands(text) if language == "console" and page.name != "commands.md" else []:
            if command[0] == "hahbench":
                options = {name for parameter in known[command[1]].params for name in parameter.opts}
                assert {word for word in command[2:] if word.startswith("--")} <= options, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_compile(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            compile(text, page.name, "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
        assert (page.parent / target).exists(), target


def test_the_page_of_commands_is_what_the_commands_say_of_themselves(tmp_path: Path) -> None:
    """Made again by the command below, with ``--output docs/commands.md``."""
    made = tmp_path / "commands.md"
    command = ["-m", "typer", "hahbench.cli", "utils", "docs", "--name", "hahbench", "--output", str(made)]
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == made.read_text(encoding="utf-8")
