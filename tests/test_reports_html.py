"""The pages as files: what they show, that they need nothing else, and that nothing a card says becomes markup."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html.parser
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import itables.options
import numpy as np
import pandas as pd
import pytest

from hahbench.metrics import scores
from hahbench.outcome import outcome_frame
from hahbench.reports.drawn import Drawn
from hahbench.reports.html import write_pages
from hahbench.reports.html.fragile import SHOWN, most_fragile
from hahbench.spec import NORMS
from tests.test_reports_schema import DIGEST, record, write
from tests.test_reports_write import CELL, FMN, LINF, NOISE, Results

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)></style><b>{{ 7 * 7 }}\u202e"

FACTS = ["Diagnostics", "Parameters", "Width", "Extra data", "Paper"]


class Page(html.parser.HTMLParser):
    """A page's elements, and its text without that of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.code: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self._open):
            self.code.append(data)
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] = " ".join((self.rows[-1][-1] + data).split())

    def having(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def pages_in(folder: Path) -> Iterator[Path]:
    yield folder / "leaderboard.html"
    yield from sorted((folder / "models").glob("*.html"))


def facts_of(path: Path) -> dict[str, str]:
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = Results().add("HaH", 9, reference="What the cells say").add("HaH", 6, **LINF, verdict="suspect: so & so")
    results.add("HaH", 4, 0.25, **FMN).add("weak").add("weak", 3, **NOISE).add("weak", 0, **LINF, verdict="ok")
    return write(results, tmp_path_factory.mktemp("reports"), record("HaH", additional_data=True))


@pytest.fixture(scope="module")
def leaderboard(folder: Path) -> Page:
    return Page(folder / "leaderboard.html")


def page_of(folder: Path, model: str) -> Path:
    (path,) = (folder / "models").glob(f"{model}-*.html")
    return path


def test_the_leaderboard_has_a_row_a_model(leaderboard: Page) -> None:
    assert leaderboard.rows == [
        ["Rank", "Model", "Clean", "APGD l_inf 2/255", "Gaussian noise sigma 0.1", "FMN l2, median norm", *FACTS],
        [
            "1",
            "HaH",
            "90.0",
            "60.0?suspect",
            "\u2013not measured",
            "0.250",
            "suspect",
            "1,234,567",
            "0.25",
            "yes",
            "A paper",
        ],
        ["2", "weak", "100.0", "0.0", "30.0", "\u2013not measured", "ok", "1,234,567", "", "", ""],
    ]


def test_every_score_says_its_interval_and_every_verdict_its_reasons(leaderboard: Page) -> None:
    details = leaderboard.having("data-details")
    assert len(details) == 3 + 3 + 2
    assert details[0] == "95 % interval 59.6 to 98.2, 10 samples"
    assert details[1] == "95 % interval 31.3 to 83.2, 10 samples\nsuspect: so & so"
    assert details[3].startswith("APGD l_inf 2/255: suspect: so & so")
    # So that the keyboard reaches what the mouse does.
    assert leaderboard.having("tabindex").count("0") == len(details) + 1
    assert leaderboard.having("aria-describedby") == ["details"] * len(details)


def test_pages_lead_to_one_another_and_to_the_paper(folder: Path, leaderboard: Page) -> None:
    links = leaderboard.having("href")
    files = [link for link in links if not link.startswith(("https:", "data:"))]
    assert sorted(files) == sorted(
        [f"leaderboard.{suffix}" for suffix in ("json", "csv", "md", "tex")]
        + [f"models/{path.name}" for path in (folder / "models").iterdir()]
    )
    assert all((folder / file).is_file() for file in files)
    assert [link for link in links if link.startswith("https:")] == ["https://example.org/paper"]
    for path in (folder / "models").iterdir():
        assert "../leaderboard.html" in Page(path).having("href")


def test_a_model_page_shows_the_card_and_the_hashes(folder: Path) -> None:
    facts = facts_of(page_of(folder, "HaH"))
    assert facts.pop("Paper").startswith('<a href="https://example.org/paper"')
    assert facts == {
        "Name": "HaH",
        "Reference": "A paper",
        "Parameters": "1,234,567",
        "Loader": "a:b",
        "Parameter of the loader: width": "0.25",
        "Trained on": "cifar10",
        "Extra data": "yes",
        "Training: epochs": "10",
        "Model (tensors, loader, parameters, settings, code)": DIGEST,
        "File of the weights, SHA-256": "f" * 64,
        "Test images and labels": "d" * 64,
    }


def test_a_model_page_shows_scores_fragile_samples_and_training_log(folder: Path) -> None:
    rows = Page(page_of(folder, "HaH")).rows
    assert ["APGD l_inf 2/255", "60.0", "31.3 to 83.2", "10", "1", "suspect: so & so"] in rows
    assert ["epoch", "loss"] in rows
    assert ["1", "2.5"] in rows
    fragile = rows[rows.index(["Index", "Label", "Predicted", "l0", "l1", "l2", "l_inf"]) + 1 :]
    # Of ten samples, FMN broke the last six.
    assert fragile[:6] == [[str(index), "1", "0", "0", "0.00", "0.250", "0.00"] for index in range(4, 10)]


def test_a_model_without_a_record_shows_what_cells_say(folder: Path) -> None:
    page = Page(page_of(folder, "weak"))
    assert set(facts_of(page_of(folder, "weak"))) == {
        "Name",
        "Parameters",
        "Model (tensors, loader, parameters, settings, code)",
        "Test images and labels",
    }
    for sentence in ("The store holds no record", "the record that the store lacks", "No minimum-norm attack was run."):
        assert sentence in page.text


def test_a_model_page_tells_a_mean_over_severities_from_one_of_them(tmp_path: Path) -> None:
    results = Results().add("HaH")
    for severity in range(1, 6):
        level: dict[str, Any] = {"level": float(severity), "kind": "corruption", "params": '{"corruption": "fog"}'}
        results.add("HaH", 10 - severity, attack="corruption-fog", **level)
    rows = {row[0]: row[1] for row in Page(page_of(write(results, tmp_path), "HaH")).rows}
    assert rows["Fog severity 5"] == "50.0"
    assert rows["Fog, mean over the severities"] == "70.0"


def test_pages_ask_for_nothing(folder: Path) -> None:
    for path in pages_in(folder):
        page = Page(path)
        assert page.having("src") == []
        assert [link["href"] for link in page.all("link")] == ["data:,"]
        (style,) = re.findall(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
        assert "url(" not in style
        assert "@import" not in style
        assert not {"iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}


def test_pages_allow_themselves_one_script_and_no_request(folder: Path) -> None:
    for path in pages_in(folder):
        page = Page(path)
        (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
        directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
        scripts = re.findall(r"<script type=\"module\">(.*?)</script>", path.read_text(encoding="utf-8"), re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        assert directives["default-src"] == "'none'"
        assert directives["img-src"] == "data:"
        assert directives["script-src"] == (f"'sha256-{hashes[0]}' blob:" if hashes else "'none'")
        assert len(page.all("script")) == 2 * len(hashes)


def test_the_table_library_inside_is_the_one_that_was_installed(folder: Path) -> None:
    text = (folder / "leaderboard.html").read_text(encoding="utf-8")
    (packed,) = re.findall(r'id="datatables">([^<]*)</script>', text)
    bundle = gzip.decompress(base64.b64decode(packed))
    assert bundle == Path(itables.options.dt_bundle).read_bytes()
    # Its licences ask to stay with it.
    assert b"SpryMedia" in bundle


def test_the_same_results_make_the_same_bytes(tmp_path: Path) -> None:
    results = Results().add("HaH", 9)
    one, other = (write(results, tmp_path / name, record("HaH")) / "leaderboard.html" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def hostile_pages(out: Path, link: str) -> Path:
    said: dict[str, Any] = {"loader": HOSTILE, "weights_sha256": HOSTILE, "dataset": HOSTILE, "reference": HOSTILE}
    said |= {"params": {HOSTILE: HOSTILE, "width": HOSTILE}, "train": {HOSTILE: [HOSTILE, {HOSTILE: 1}]}, "link": link}
    said |= {"training_log": ({HOSTILE: HOSTILE}, {})}
    facts = {"display": HOSTILE, "reference": HOSTILE, "source": HOSTILE, "dataset": HOSTILE, "versions": HOSTILE}
    facts |= {"device": HOSTILE, "created": HOSTILE, "model_argument": HOSTILE, "dataset_argument": HOSTILE}
    results = Results()
    for attack, verdict in ((LINF, f"suspect: {HOSTILE}"), (FMN, ""), ({**NOISE, "attack": HOSTILE}, ""), ({}, "")):
        results.add(HOSTILE, 5, 0.1, **{**attack, **facts, "verdict": verdict})
    results.add(HOSTILE, 5, 0.1, **facts, worst_case=True, norm="l2", attack=f"fmn {HOSTILE}")
    return write(results, out, record(HOSTILE, **said))


@pytest.mark.parametrize("link", [HOSTILE, f"https://example.org/{HOSTILE}"])
def test_what_a_hostile_card_says_is_text(tmp_path: Path, link: str) -> None:
    folder = hostile_pages(tmp_path, link)
    paths = list(pages_in(folder))
    assert len(paths) == 2
    for path in paths:
        page = Page(path)
        assert len(page.all("script")) == (2 if path.name == "leaderboard.html" else 0)
        assert not {"img", "b"} & {tag for tag, _ in page.elements}
        assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []
        for address in page.having("href"):
            assert address in ("data:,", link) or (path.parent / address).is_file()
        assert HOSTILE in page.text
    model = Page(paths[1]).text
    # The heading, and every field of the card once.
    assert model.count(HOSTILE) >= 14


def test_only_the_web_is_linked_to(tmp_path: Path) -> None:
    links = {
        "a": "javascript:alert(1)",
        "b": "JaVaScRiPt:alert(1)",
        "c": " javascript:alert(1)",
        "d": "java\nscript:alert(1)",
        "e": "\x01javascript:alert(1)",
        "f": "data:text/html,<script>alert(1)</script>",
        "g": "vbscript:x",
        "h": "file:///etc/passwd",
        "i": "//example.org",
        "j": "example.org",
        "k": "http://[",
        "l": "https://example.org",
    }
    results = Results()
    for model in links:
        results.add(model)
    folder = write(results, tmp_path, *(record(model, link=link) for model, link in links.items()))
    found = {
        path.name[0]: [link for link in Page(path).having("href") if link not in ("data:,", "../leaderboard.html")]
        for path in (folder / "models").iterdir()
    }
    assert found == {model: [link] if model == "l" else [] for model, link in links.items()}
    for model, link in links.items():
        assert " ".join(link.split()) in " ".join(Page(page_of(folder, model)).text.split())
    addresses = Page(folder / "leaderboard.html").having("href")
    assert set(links.values()) & set(addresses) == {"https://example.org"}


def test_a_page_shows_the_figures_of_its_model(tmp_path: Path) -> None:
    results = Results().add("HaH", 9).add("weak")
    folder = write(results, tmp_path)
    board = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    happened = pd.DataFrame(results.cells), pd.concat(results.outcomes)
    drawn: list[Drawn] = []
    for title, models in ((HOSTILE, {"HaH", "weak"}), ("One", {"HaH"}), ("Another's", {"Standard"})):
        png = tmp_path / f"{len(drawn)}.png"
        png.write_bytes(title.encode())
        drawn.append(Drawn(title, png, frozenset(models)))
    write_pages(folder, board, *happened, scores(*happened), [], drawn)
    shown = {
        model: [
            (base64.b64decode(image["src"].removeprefix("data:image/png;base64,")).decode(), image["alt"])
            for image in Page(page_of(folder, model)).all("img")
        ]
        for model in ("HaH", "weak")
    }
    assert shown == {"HaH": [(HOSTILE, HOSTILE), ("One", "One")], "weak": [(HOSTILE, HOSTILE)]}


@pytest.mark.parametrize("names", [("a/b", "a b", "a_b"), ("..", "../..", "/"), ("x" * 400, "x" * 401), ("é", "日本")])
def test_every_model_has_a_page_inside_the_folder(tmp_path: Path, names: tuple[str, ...]) -> None:
    results = Results()
    for name in names:
        results.add(name)
    folder = write(results, tmp_path)
    found = [path.name for path in (folder / "models").iterdir()]
    assert len(found) == len(names)
    assert not any(name.startswith(".") for name in found)


def samples(key: str, l2: list[float], clean: list[bool] | None = None) -> pd.DataFrame:
    """Samples of label 3, predicted as 5 once broken, with indices that count down."""
    n = len(l2)
    clean_pred = np.where(np.ones(n, bool) if clean is None else clean, 3, 4)
    norms = {norm: np.array(l2) * (2 if norm == "l0" else 1) for norm in NORMS}
    untold = {"member": np.full(n, ""), **dict.fromkeys(("step", "forwards", "backwards", "seconds"), np.zeros(n))}
    index = np.arange(n)[::-1]
    adv_pred = np.where(np.isfinite(l2), 5, 3)
    frame = outcome_frame(index=index, label=np.full(n, 3), clean_pred=clean_pred, adv_pred=adv_pred, **norms, **untold)
    return frame.assign(key=key)


def cells(*changes: dict[str, Any]) -> pd.DataFrame:
    facts = {"model": "m", "model_argument": "m", "key": "k", "attack": "fmn-l2", "norm": "l2", "worst_case": True}
    return pd.DataFrame([{**CELL, **facts, **change} for change in changes])


def test_fragile_is_what_the_smallest_perturbations_break() -> None:
    (found,) = most_fragile(
        cells({}), samples("k", [0.3, 0.0, 0.1, math.inf, 0.2, 0.1], [True, False, True, True, True, True])
    )
    assert (found.attack, found.norm) == ("fmn-l2", "l2")
    assert found.samples["index"].tolist() == [0, 3, 1, 5]
    assert found.samples["l2"].tolist() == [0.1, 0.1, 0.2, 0.3]
    assert found.samples["l0"].tolist() == [0.2, 0.2, 0.4, 0.6]
    assert set(found.samples["label"]) == {3}
    assert set(found.samples["predicted"]) == {5}


def test_of_several_draws_the_smallest_perturbation_of_each_sample_counts() -> None:
    happened = pd.concat([samples("a", [0.3, 0.4]), samples("b", [0.5, 0.2])])
    (found,) = most_fragile(cells({"key": "a"}, {"key": "b", "seed": 1}), happened)
    assert list(zip(found.samples["index"], found.samples["l2"], strict=True)) == [(0, 0.2), (1, 0.3)]


def test_a_few_samples_of_each_attack_are_shown() -> None:
    found = most_fragile(
        cells({}, {"key": "other", "attack": "carlini-wagner-l2"}),
        pd.concat([samples("k", [0.1] * (SHOWN + 5)), samples("other", [math.inf])]),
    )
    assert [(one.attack, len(one.samples)) for one in found] == [("carlini-wagner-l2", 0), ("fmn-l2", SHOWN)]


@pytest.mark.parametrize("other", [{"level": 0.5}, {"norm": ""}, {"worst_case": False}])
def test_attacks_without_minimum_norms_are_left_out(other: dict[str, Any]) -> None:
    assert most_fragile(cells(other), samples("k", [0.1])) == []
