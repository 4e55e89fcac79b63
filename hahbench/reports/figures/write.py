"""Every figure that finished cells and exhibits allow, as files."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from hahbench.atomic import replacing
from hahbench.exhibits import EXAMPLES, NOISE_STD
from hahbench.reports.display import escape, score_title
from hahbench.reports.drawn import Drawn
from hahbench.reports.figures import (
    autoattack,
    blocks,
    corruptions,
    examples,
    minimum_norms,
    noise,
    robustness_curve,
    signal_to_noise,
    sparsity,
    style,
)
from hahbench.reports.files import write_csv
from hahbench.spec import ExhibitKind, name_without_folder

_PUBLISHABLE = "shapes"
"""The data set whose images may be published: hahbench draws them itself."""

_MODEL = ["model", "model_digest"]
_FEWEST_NUMBERS_OF_BLOCKS = 3
_BESIDE = "Points at the same place are drawn side by side."


@dataclasses.dataclass(frozen=True)
class Results:
    """What there is of one data set.

    Attributes:
        cells: as the store gives them, of this data set.
        outcomes: as the store gives them, of any.
        scores: as ``hahbench.metrics.scores`` gives them, of this data set.
        models: as ``hahbench.reports.tables.models_in`` gives them.
        exhibits: of each kind, as the store gives them, of any data set.
        repeated: of each model that differs from another in its gradients alone, the other's display name by its own.
            What is predicted is that of the other; an attack on either is one on both.
    """

    cells: pd.DataFrame
    outcomes: pd.DataFrame
    scores: pd.DataFrame
    models: pd.DataFrame
    exhibits: Mapping[ExhibitKind, tuple[pd.DataFrame, pd.DataFrame]]
    repeated: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def named(self, rows: pd.DataFrame) -> pd.DataFrame:
        """``rows`` of these models with their ``display`` names."""
        return rows.drop(columns="display", errors="ignore").merge(self.models[[*_MODEL, "display"]], on=_MODEL)

    def kept(self, kind: ExhibitKind) -> pd.DataFrame:
        """The exhibits of a kind, of this data set, with the models' ``display`` names."""
        exhibits = self.exhibits[kind][0]
        return self.named(exhibits[exhibits["data_digest"].isin(self.cells["data_digest"])])

    def shown(self, kind: ExhibitKind) -> pd.DataFrame:
        """What those exhibits show, with ``display``, ``attack`` and ``norm``."""
        return self.exhibits[kind][1].merge(self.kept(kind)[["key", "display", "attack", "norm"]], on="key")


@dataclasses.dataclass(frozen=True)
class Written:
    """What became of the figures.

    Attributes:
        paths: the files.
        drawn: those among them that may be published.
        sections: of the page that shows them, in Markdown.
        absent: a row for each figure, model and attack that is missing: ``title``, ``display``, ``model_argument``,
            ``model_digest`` and ``attack``, which is the kind of exhibit where one is missing.
    """

    paths: list[Path]
    drawn: list[Drawn]
    sections: list[str]
    absent: pd.DataFrame


def write_figures(folder: Path, results: Results) -> Written:
    """Draw and write each figure, for the models of which there is all that it needs.

    Raises:
        OSError: a file cannot be written; files are written whole or not at all.
    """
    # Standard and HaH are the ends of figure 6; what lies between stands there alone.
    networks = results.models.assign(display=results.models["display"].replace(dict(results.repeated)))
    between = networks[networks["model"].map(name_without_folder).isin(blocks.MODELS[1:-1])]
    models = results.models[~networks["display"].isin(between["display"])]
    looks = style.looks(models)
    models = models.set_index("display").loc[list(looks)].reset_index()
    files = _Files(folder, results, looks)
    predicting = models[~models["display"].isin(results.repeated)]
    _write_activations(files, results, predicting)
    _write_noise(files, results, predicting)
    _write_minimum_norms(files, results, models)
    _write_blocks(files, results)
    _write_corruptions(files, results, predicting)
    _write_examples(files, results, models)
    return Written(files.paths, files.drawn, files.sections, pd.concat(files.absent, ignore_index=True))


class _Files:
    """Takes figures in, and keeps account of what is missing."""

    def __init__(self, folder: Path, results: Results, looks: dict[str, style.Look]) -> None:
        self.folder = folder
        self.looks = looks
        kept = [results.kept(kind).assign(attack=kind) for kind in results.exhibits]
        self.measured = pd.concat([results.scores, *kept])[[*_MODEL, "attack"]].drop_duplicates()
        self.paths: list[Path] = []
        self.drawn: list[Drawn] = []
        self.sections: list[str] = []
        self.absent: list[pd.DataFrame] = []

    def complete(self, title: str, models: pd.DataFrame, attacks: Collection[str]) -> dict[str, style.Look]:
        """The models of which all ``attacks`` were measured, by display name; of the others, note what is absent."""
        asked = models.merge(pd.DataFrame({"attack": list(attacks)}), how="cross")
        found = asked.merge(self.measured, on=[*_MODEL, "attack"], how="left", indicator=True)
        lacking = found[found["_merge"] == "left_only"]
        self.absent.append(lacking[["display", "model_argument", "model_digest", "attack"]].assign(title=title))
        return {
            name: look for name, look in self.looks.items() if name in set(models["display"]) - set(lacking["display"])
        }

    def add(
        self,
        stem: str,
        title: str,
        text: str,
        figure: Figure,
        models: Iterable[str],
        note: str | None = None,
        numbers: pd.DataFrame | None = None,
    ) -> None:
        """Write a figure that shows ``models``, by display name; a ``note`` follows the text, both plain.

        Of ``numbers``, where the tables do not have them, those of these models are written beside it.
        """
        shown = frozenset(models)
        png, pdf = style.save(figure, self.folder / stem)
        self.paths += [png, pdf]
        links = f"[PDF]({self.folder.name}/{pdf.name})"
        if numbers is not None:
            csv = write_csv(png.with_suffix(".csv"), numbers[numbers["display"].isin(shown)])
            self.paths.append(csv)
            links += f" [CSV]({self.folder.name}/{csv.name})"
        self.drawn.append(Drawn(title, png, shown, f"{text} {note}" if note else text))
        text = f"{text} {escape(note)}" if note else text
        title = escape(title)
        self.sections.append(f"## {title}\n\n![{title}]({self.folder.name}/{png.name})\n\n{text} {links}")

    def add_local(self, title: str, text: str, figures: Mapping[str, Figure]) -> None:
        """Write figures, by their stems, that are not for publication, into a folder that git ignores."""
        local = self.folder / "local"
        with replacing(local / ".gitignore") as temporary:
            temporary.write_text("*\n", encoding="utf-8")
        for stem, figure in figures.items():
            self.paths += style.save(figure, local / stem)
        self.sections.append(
            f"## {escape(title)}\n\n{text} They show images of the data set, so they are not for publication, and lie "
            f"in `{self.folder.name}/local`, which git ignores."
        )


def _write_activations(files: _Files, results: Results, models: pd.DataFrame) -> None:
    title2 = "Figure 2: sparsity of each block's output on clean images"
    title3b = "Figure 3b: signal-to-noise ratio at each block's input"
    complete = files.complete(title2, models, ["activations"])
    files.complete(title3b, models, ["activations"])
    activations = results.shown("activations")
    shown = {name: look for name, look in complete.items() if name in set(activations["display"])}
    if not shown:
        return
    without = "; ".join(name for name in complete if name not in shown)
    note = f"Without HaH or regular blocks, and so without a line: {without}." if without else None
    text = (
        "The ratio of the l1 to the l2 norm over the channels, averaged over the locations and mapped linearly to "
        f"[0, 1]; means over the samples with their 95 % intervals. {_BESIDE}"
    )
    points = sparsity.sparsity(activations)
    files.add("figure2-sparsity", title2, text, sparsity.draw(points, shown), shown, note, points)
    text = (
        f"Eq. 6 of the paper under Gaussian noise of standard deviation {NOISE_STD:g}, with 95 % intervals over the "
        f"samples; the noisy images are clipped to [0, 1]. {_BESIDE}"
    )
    points = signal_to_noise.signal_to_noise(activations)
    figure = signal_to_noise.draw(points, shown)
    files.add("figure3b-signal-to-noise", title3b, text, figure, shown, note, points)


def _write_noise(files: _Files, results: Results, models: pd.DataFrame) -> None:
    title = "Figure 4: accuracy under Gaussian noise"
    shown = files.complete(title, models, ["clean", "gaussian-noise"])
    if shown:
        points = noise.accuracy_under_noise(results.named(results.scores))
        images = noise.noisy_images(noise.spread(sorted(points["std"].unique())))
        text = (
            f"Draws averaged, with Wilson's 95 % intervals over the samples. {_BESIDE} Below, an image of the embedded "
            "data set shapes under the noise."
        )
        files.add("figure4-noise", title, text, noise.draw(points, images, shown), shown)


def _write_minimum_norms(files: _Files, results: Results, models: pd.DataFrame) -> None:
    title5 = "Figure 5: norms of minimum-norm attacks"
    title = "Robust accuracy against epsilon"
    complete = files.complete(title5, models, minimum_norms.ATTACKS)
    files.complete(title, models, minimum_norms.ATTACKS)
    other = {name: plain for name, plain in results.repeated.items() if {name, plain} <= set(complete)}
    shown = {name: look for name, look in complete.items() if name not in other}
    if not shown:
        return
    cells = results.named(results.cells)
    sizes = minimum_norms.smallest_norms(cells.replace({"display": other}), results.outcomes)
    sizes = sizes[sizes["display"].isin(shown)]
    through_others = "Of networks also attacked through other gradients"
    norms = f"{through_others} ({'; '.join(other.values())}), the lower of the two norms counts." if other else None
    text = (
        "The smallest perturbations that FMN found, of the samples that were classified correctly and then broken: "
        "their distribution, on logarithmic axes that leave out the tail of the smallest hundredth, and their mean as "
        "a tick, with its 95 % interval as a bar."
    )
    figure = minimum_norms.draw(sizes, shown)
    files.add("figure5-minimum-norms", title5, text, figure, [*shown, *other], norms)
    text = (
        "The part of all samples that no perturbation of size epsilon or less broke, read off the smallest ones that "
        "FMN found, so that the true robust accuracy is at most this; the bands are Wilson's 95 % intervals at each "
        "epsilon by itself. Hollow marks: the accuracy under AutoAttack's two APGD members, and under its others where "
        "those were run, at their epsilon, with the same interval; where they lie below the curve, FMN overstates the "
        "robustness."
    )
    attacked = cells.loc[cells["attack"].isin(autoattack.ATTACKS), "display"]
    marked = {name: plain for name, plain in results.repeated.items() if plain in shown and name in set(attacked)}
    marks = autoattack.autoattack_accuracies(cells.replace({"display": marked}), results.outcomes)
    of_marks = f"{through_others} ({'; '.join(marked.values())}), hollow marks are of what withstands both."
    note = " ".join(filter(None, [norms, of_marks if marked else None])) or None
    figure = robustness_curve.draw(robustness_curve.robust_accuracies(sizes), marks, shown)
    files.add("robust-accuracy", title, text, figure, [*shown, *{**other, **marked}], note)


def _write_blocks(files: _Files, results: Results) -> None:
    title = "Figure 6: clean against robust accuracy over the number of HaH blocks"
    named = results.models.assign(name=results.models["model"].map(name_without_folder))
    of_figure = named[named["name"].isin(blocks.MODELS)].drop_duplicates("name", keep="last")
    if of_figure.empty:
        return
    unmeasured = [name for name in blocks.MODELS if name not in set(of_figure["name"])]
    added = pd.DataFrame(dict.fromkeys(("model", "display", "model_argument"), unmeasured)).assign(model_digest="")
    files.complete(title, pd.concat([of_figure, added]), [column.attack for column in blocks.COLUMNS])
    points = blocks.accuracies(results.scores.merge(of_figure[_MODEL], on=_MODEL))
    if points["blocks"].nunique() >= _FEWEST_NUMBERS_OF_BLOCKS:
        text = (
            f"With Wilson's 95 % intervals over the samples. {_BESIDE} APGD, two of AutoAttack's members, attacks each "
            "network through its own gradients; what other attacks break besides does not count here."
        )
        files.add("figure6-blocks", title, text, blocks.draw(points), of_figure["display"])


def _write_corruptions(files: _Files, results: Results, models: pd.DataFrame) -> None:
    last = models["model"].map(name_without_folder).str.replace(r"[^\w.-]+", "-", regex=True)
    # A name that two models share would be that of two files; case does not tell files apart everywhere.
    is_shared = last.str.lower().duplicated(keep=False)
    file_names = last.where(~is_shared, last + "-" + models["model_digest"].str[:8])
    scores = results.named(results.scores)
    for name in files.complete("Corruptions", models, ["corruption-gaussian-noise"]):
        file_name = file_names[models["display"] == name].iloc[0]
        percent = corruptions.accuracies(scores[scores["display"] == name])
        text = "Accuracies in percent; after ± half the width of the mean's 95 % interval."
        files.add(f"corruptions-{file_name}", f"Corruptions: {name}", text, corruptions.draw(percent), [name])


def _write_examples(files: _Files, results: Results, models: pd.DataFrame) -> None:
    title = "Worst adversarial examples"
    shown = list(files.complete(title, models, ["adversarial-examples"]))
    found = results.shown("adversarial-examples")
    publishable = set(results.cells["dataset_argument"]) == {_PUBLISHABLE}
    text = (
        f"Of each model, the {EXAMPLES} samples that the smallest perturbations broke: the image that broke it and "
        "the perturbation, scaled until its largest change is black or white. Norms in pixel values of [0, 1]; "
        "l0 counts changed colour values."
    )
    local: dict[str, Figure] = {}
    for (attack, norm), part in found[found["display"].isin(shown)].groupby(["attack", "norm"]):
        stem, figure = f"examples-{attack}", examples.draw(part, str(norm), shown)
        if publishable:
            files.add(stem, f"{title}: {score_title(str(attack), None, 'accuracy')}", text, figure, shown)
        else:
            local[stem] = figure
    if local:
        files.add_local(title, text, local)
