"""What is kept of the models that were measured: from the card, over a run and the store, to the record."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from hahbench.catalog import read_card
from hahbench.data import load_images
from hahbench.errors import CatalogError, StoreError
from hahbench.models.load import build_model, save_weights
from hahbench.models.record import model_record
from hahbench.run import Part, run
from hahbench.spec import AttackSpec, ModelCard, ModelRecord
from hahbench.store import Store
from hahbench.training.card import card_toml
from tests.test_run import Silent

CARD = ModelCard("tiny", "hahbench.models.vgg:vgg16", {"width": 0.02}, reference="A paper", link="https://example.org")
LOG = "epoch,loss\n1,2.5\n2,1.25\n"
RECORD = ModelRecord(
    model="tiny",
    model_digest="d",
    loader="hahbench.models.vgg:vgg16",
    params={"width": 0.02},
    weights_sha256="",
    dataset="",
    train={},
    reference="A paper",
    link="https://example.org",
    additional_data=None,
    training_log=(),
    classes=10,
)


def measure(card: ModelCard, store: Store) -> None:
    run(
        [Part([card], [AttackSpec("clean", "clean")])],
        load_images("shapes", "test", None),
        2,
        dataset_argument="shapes",
        from_path=False,
        store=store,
        device=torch.device("cpu"),
        observer=Silent(),
    )


@pytest.fixture
def trained(tmp_path: Path) -> ModelCard:
    weights = tmp_path / "tiny.safetensors"
    save_weights(build_model(CARD), weights)
    (tmp_path / "tiny.log.csv").write_text(LOG)
    return dataclasses.replace(CARD, weights=weights, dataset="shapes", train={"epochs": 2})


def test_a_run_keeps_card_hash_and_training_log(trained: ModelCard, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    measure(trained, store)
    assert trained.weights is not None
    (kept,) = store.read_records()
    assert kept == dataclasses.replace(
        RECORD,
        model_digest=store.read()[0]["model_digest"].item(),
        weights_sha256=hashlib.sha256(trained.weights.read_bytes()).hexdigest(),
        dataset="shapes",
        train={"epochs": 2},
        training_log=({"epoch": "1", "loss": "2.5"}, {"epoch": "2", "loss": "1.25"}),
    )


def test_a_run_that_finds_its_cells_finished_still_keeps_what_cards_say_now(trained: ModelCard, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    measure(trained, store)
    finished = {path: path.stat().st_mtime_ns for path in store.folder.glob("*.parquet")}
    measure(dataclasses.replace(trained, link="https://example.net", additional_data=True), store)
    assert {path: path.stat().st_mtime_ns for path in store.folder.glob("*.parquet")} == finished
    assert [(kept.link, kept.additional_data) for kept in store.read_records()] == [("https://example.net", True)]


def test_models_without_a_weights_file_have_no_hash_and_no_log() -> None:
    assert model_record(CARD, "d", classes=10) == RECORD


@pytest.mark.parametrize("log", ["", "epoch,loss\n", "\n\n", "epoch\n1,2,3\n", "a,b\n1\n", "\x00\xff"])
def test_a_log_of_any_form_costs_no_measurement(trained: ModelCard, tmp_path: Path, log: str) -> None:
    (tmp_path / "tiny.log.csv").write_text(log, encoding="latin-1")
    rows = model_record(trained, "d", classes=10).training_log
    assert all(isinstance(text, str) for row in rows for text in [*row, *row.values()])


def test_a_store_holds_no_records_until_there_are_some(tmp_path: Path) -> None:
    assert Store(tmp_path).read_records() == []


def test_models_of_the_same_file_name_have_records_of_their_own(tmp_path: Path) -> None:
    records = [dataclasses.replace(RECORD, model=name) for name in ("a/b", "a b", "a_b")]
    for record in records:
        Store(tmp_path).write_record(record)
    assert sorted(kept.model for kept in Store(tmp_path).read_records()) == ["a b", "a/b", "a_b"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"training_log": []}', '{"training_log": 1}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.json").write_text(content)
    with pytest.raises(StoreError, match=r"models/tiny\.json: is no record of a model; delete it"):
        Store(tmp_path).read_records()


def test_cards_say_where_the_paper_is_and_whether_more_data_were_used(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('loader = "m:f"\nlink = "https://example.org"\nadditional_data = true\n')
    (tmp_path / "amended.toml").write_text('base = "base.toml"\nadditional_data = false\n')
    assert read_card(tmp_path / "base.toml").additional_data is True
    amended = read_card(tmp_path / "amended.toml")
    assert (amended.link, amended.additional_data) == ("https://example.org", False)


@pytest.mark.parametrize(
    ("line", "allowed"),
    [("additional_data = 1", "true or false"), ("link = true", "a string"), ("link = 5", "a string")],
)
def test_a_wrong_value_of_a_card_is_named(tmp_path: Path, line: str, allowed: str) -> None:
    (tmp_path / "card.toml").write_text(f'loader = "m:f"\n{line}\n')
    with pytest.raises(CatalogError, match=f"card.toml: key '{line.split()[0]}': .*; allowed: {allowed}"):
        read_card(tmp_path / "card.toml")


def test_the_card_of_a_trained_model_keeps_both(trained: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "trained.toml"
    path.write_text(card_toml(dataclasses.replace(trained, additional_data=False)))
    assert (read_card(path).link, read_card(path).additional_data) == ("https://example.org", False)
