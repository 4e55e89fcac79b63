"""Times hahbench's attacks against those of other libraries: ``python -m benchmarks.attacks --help``."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import platform
import re
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from benchmarks.cost import cost_of
from benchmarks.libraries import LIBRARIES, Task, is_installed
from benchmarks.table import CSV, MARKDOWN, OURS, Row, Setting, Side, append_csv, check_out, compare, markdown
from hahbench.attacks import build_attack
from hahbench.attacks.base import Attack
from hahbench.catalog import attacks, read_attack, resolve_models
from hahbench.data import load_images
from hahbench.errors import HahbenchError
from hahbench.measure import judge
from hahbench.models.load import check_classifier, load_model
from hahbench.models.prepare import PreparedModel, prepare
from hahbench.outcome import Candidates
from hahbench.plan import check_cards
from hahbench.registry import one_line
from hahbench.spec import AttackSpec, level_text

_SECONDS_BETWEEN_REPORTS = 30.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """The command: an error that the user can mend is one line and exit code 2."""
    try:
        app()
    except HahbenchError as error:
        _say(" ".join(str(error).split()))
        sys.exit(2)


@app.command()
def benchmark(
    attack: Annotated[
        list[str], typer.Option("--attack", help="Name that 'hahbench attacks' lists, or a spec (.toml); repeatable.")
    ] = ["autoattack-linf", "fmn-l2"],  # noqa: B006
    model: Annotated[
        list[str], typer.Option("--model", help="Model name, card (.toml) or Python file (.py); repeatable.")
    ] = ["Standard"],  # noqa: B006
    dataset: Annotated[str, typer.Option("--dataset", help="Name, or FILE.py:NAME.")] = "shapes",
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the data set is read from.")] = None,
    n: Annotated[int, typer.Option("--n", help="Use the first n test samples.")] = 8,
    level: Annotated[
        list[str] | None, typer.Option("--level", help="Epsilon, such as 2/255, instead of the spec's; repeatable.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Of the attack, instead of the spec's.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random draw, on both sides.")] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="That either side computes with.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for attacks.csv and attacks.md.")] = None,
) -> None:
    """Time hahbench's attacks against other libraries: the same model, samples, budget and threads, in one run.

    The table goes to standard output, progress to standard error. Each finished row is appended to attacks.csv at once.
    """
    specs = [_spec(name, level, steps) for name in attack]
    libraries = _libraries(specs)
    cards = [card for name in model for card in resolve_models(name, dataset)]
    check_cards(cards, dataset)
    images = load_images(dataset, "test", data)
    samples = images.first(n)
    setting = Setting(images.name, n, images.digest, seed, threads, _cpu(), _versions(libraries))
    if out is not None:
        check_out(out)
    torch.set_num_threads(threads)
    rows: list[Row] = []
    for card in cards:
        plain = load_model(card)
        check_classifier(plain, samples.images[:4], len(images.classes), card.name)
        prepared = prepare(plain, samples.images[:4])
        for spec in specs:
            for epsilon in spec.levels or (None,):
                task = Task(samples, epsilon, seed, len(images.classes))
                for row in _rows(card.name, plain, prepared, spec, task, libraries):
                    rows.append(row)
                    if out is not None:
                        append_csv(out / CSV, setting, row)
                        (out / MARKDOWN).write_text(markdown(setting, rows), encoding="utf-8")
    print(markdown(setting, rows), end="")


def _spec(name: str, levels: list[str] | None, steps: int | None) -> AttackSpec:
    spec = read_attack(Path(name)) if name.endswith(".toml") else attacks()[name]
    if spec.kind not in LIBRARIES:
        raise HahbenchError(
            f"attack {name!r}: kind {spec.kind!r} is in none of the other libraries; allowed: {', '.join(LIBRARIES)}"
        )
    if levels and spec.levels:
        spec = dataclasses.replace(spec, levels=tuple(map(_number, levels)))
    if steps is not None:
        spec = dataclasses.replace(spec, params={**spec.params, "steps": steps})
    build_attack(spec)
    return spec


def _number(level: str) -> float:
    try:
        return float(Fraction(level))
    except (ValueError, ZeroDivisionError):
        raise HahbenchError(f"--level {level!r}; allowed: numbers or fractions such as 8/255") from None


def _libraries(specs: list[AttackSpec]) -> list[str]:
    """Those that take part; says which is missing."""
    wanted = dict.fromkeys(library for spec in specs for library in LIBRARIES[spec.kind])
    installed = [library for library in wanted if is_installed(library)]
    for library in wanted:
        if library not in installed:
            _say(f"{library} is not installed and takes no part; benchmarks/README.md says how to install it")
    return installed


def _rows(
    name: str, plain: nn.Module, prepared: PreparedModel, spec: AttackSpec, task: Task, libraries: list[str]
) -> Iterator[Row]:
    """A row for hahbench, then one for each library, as each is finished."""
    attack = build_attack(spec)
    title = f"{name} {spec.name}" + ("" if task.epsilon is None else f" {level_text(task.epsilon)}")
    ours: Side | None = None
    for engine in (OURS, *(library for library in LIBRARIES[spec.kind] if library in libraries)):
        torch.manual_seed(task.seed)
        carry_out = functools.partial(_candidates, engine, spec.kind, plain, prepared, attack, task)
        progress = _Progress(f"{title}: {engine}", len(task.samples))
        try:
            candidates, cost = cost_of(_asked(prepared) if engine == OURS else [plain], carry_out, progress)
        except Exception as error:
            if engine == OURS:
                raise
            _say(f"{title}: {engine} raised {one_line(error)}; it gets no row")
            continue
        outcomes = judge(
            plain,
            task.samples,
            candidates,
            norm=spec.norm,
            epsilon=task.epsilon,
            worst_case=attack.worst_case,
            seconds=cost.seconds,
        )
        _say(f"{title}: {engine} took {cost.seconds:.1f} s")
        side = Side(engine, outcomes, cost)
        ours = ours or side
        yield compare(name, spec, task.epsilon, side, ours)


def _candidates(
    engine: str, kind: str, plain: nn.Module, prepared: PreparedModel, attack: Attack, task: Task
) -> Candidates:
    if engine == OURS:
        return attack(prepared, task.samples, task.epsilon, task.seed, lambda fraction, accuracy: None)
    return Candidates.untold(LIBRARIES[kind][engine](plain, attack, task))


def _asked(prepared: PreparedModel) -> list[nn.Module]:
    """The prepared model and, where there is one, its faster approximation, whose passes count as well."""
    return [prepared] if prepared.low_precision is None else [prepared, prepared.low_precision]


class _Progress:
    """Says now and then how far an attack is; no library tells the fraction done."""

    def __init__(self, title: str, n: int) -> None:
        self.title, self.n = title, n
        self.started = self.said = time.perf_counter()

    def __call__(self, forwards: int) -> None:
        now = time.perf_counter()
        if now - self.said >= _SECONDS_BETWEEN_REPORTS:
            self.said = now
            _say(f"{self.title}: {now - self.started:.0f} s, {forwards / self.n:.0f} forward passes per sample")


def _cpu() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _versions(libraries: list[str]) -> str:
    named = [f"{name} {importlib.metadata.version(name)}" for name in (OURS, "torch", *libraries)]
    return ", ".join([*named, f"Python {platform.python_version()}"])


def _say(line: str) -> None:
    print("benchmark:", line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
