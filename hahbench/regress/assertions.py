"""Assertions on robustness for tests of one's own."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

from torch import nn

from hahbench import metrics
from hahbench.catalog import attacks, read_number, resolve_models
from hahbench.data import load_images
from hahbench.device import choose_device
from hahbench.errors import HahbenchError
from hahbench.models.load import copy_of
from hahbench.regress.check import Quiet
from hahbench.regress.expect import check_floor
from hahbench.reports import display
from hahbench.run import Part, run
from hahbench.spec import NORMS, ModelCard
from hahbench.store import Store
from hahbench.verdict import doubt_in


@dataclasses.dataclass(frozen=True)
class Measured:
    """A score with its 95 % interval.

    Attributes:
        what: model and attack, for messages.
        metric: ``accuracy`` or ``median_norm``.
        value: the score.
        low: the interval's lower end.
        high: its upper end.
        n: the number of samples.
        verdict: of the diagnostics.
    """

    what: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    verdict: str

    def at_least(self, least: float) -> None:
        """Fail unless the interval's lower end reaches ``least``; warn where the diagnostics doubt the score.

        Raises:
            AssertionError: it does not.
            HahbenchError: no score can be so low, or so high.
        """
        check_floor(self.metric, least, f"{self.what}: at_least({least:g})")
        # pytest then shows the line that called this.
        __tracebackhide__ = True
        if not self.low >= least:
            asked = display.percent(least) if self.metric == "accuracy" else f"{least:.4g}"
            found = display.score_text(self.metric, self.value, self.low, self.high)
            raise AssertionError(
                f"{self.what}: {found} on {self.n} samples; the lower end of the 95 % interval is to be {asked} or more"
            )
        if doubt_in(self.verdict):
            warnings.warn(f"{self.what}: {self.verdict}", stacklevel=2)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model on the first ``n`` test samples of a data set."""

    card: ModelCard
    dataset: str
    data: Path | None
    n: int
    store: Store

    def under(self, attack: str, level: float | str | None = None) -> Measured:
        """Measure the model.

        Args:
            attack: a norm, ``l2`` or ``linf``, for AutoAttack within ``level``; or the name of an attack, such as
                ``gaussian-noise`` or ``fmn-l2``.
            level: epsilon, sigma or severity, a number or a fraction such as ``"8/255"``; None for attacks without one.

        Raises:
            HahbenchError: the model, the attack or the data set cannot be had.
        """
        spec = attacks()[f"autoattack-{attack}" if attack in NORMS else attack]
        if level is None and spec.levels:
            raise HahbenchError(f"attack {spec.name!r} needs a level, such as {spec.levels[0]:.4g}")
        level = None if level is None else read_number(level, f"attack {spec.name!r}: level")
        spec = dataclasses.replace(spec, levels=() if level is None else (level,))
        cells = run(
            [Part([self.card], [spec])],
            load_images(self.dataset, "test", self.data),
            self.n,
            dataset_argument=self.dataset,
            from_path=self.data is not None,
            store=self.store,
            device=choose_device("auto"),
            observer=Quiet(),
        )
        scores = metrics.scores(*self.store.read(cells))
        found = scores[scores["metric"].isin(["accuracy", "median_norm"])].to_dict("records")[0]
        title = display.score_title(spec.name, level, found["metric"])
        known = {key: found[key] for key in ("metric", "value", "low", "high", "n", "verdict")}
        return Measured(f"{self.card.name}, {title}", **known)


@dataclasses.dataclass(frozen=True)
class Robustness:
    """``robustness(model).under("linf", 2 / 255).at_least(0.2)``; what is measured is kept in ``store``."""

    store: Store

    def __call__(
        self, model: nn.Module | str, *, dataset: str = "shapes", data: Path | None = None, n: int = 100
    ) -> Subject:
        """A model to measure.

        Args:
            model: a module that maps images in [0, 1] to logits, of which a copy is measured; or what ``--model`` takes
                where that stands for one model.
            dataset: what ``--dataset`` takes.
            data: what ``--data`` takes.
            n: the number of samples.

        Raises:
            HahbenchError: the model cannot be had.
        """
        if isinstance(model, nn.Module):
            kept = copy_of(model)
            card = ModelCard(type(model).__name__, lambda: copy_of(kept))
            return Subject(card, dataset, data, n, self.store)
        cards = resolve_models(model, dataset)
        if len(cards) != 1:
            raise HahbenchError(f"{model!r} stands for {len(cards)} models; allowed: one")
        return Subject(cards[0], dataset, data, n, self.store)
