"""What is kept of a model that was measured, for reports: its card, the hash of its weights, its training log."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path

from hahbench.models.load import loader_name
from hahbench.spec import ModelCard, ModelRecord


def model_record(card: ModelCard, model_digest: str, classes: int) -> ModelRecord:
    """The record of a model whose weights could be loaded.

    The training log is the file ``NAME.log.csv`` beside weights ``NAME.safetensors``, as training writes it.
    """
    return ModelRecord(
        model=card.name,
        model_digest=model_digest,
        loader=loader_name(card),
        params=card.params,
        weights_sha256="" if card.weights is None else hashlib.sha256(card.weights.read_bytes()).hexdigest(),
        dataset=card.dataset or "",
        train=card.train,
        reference=card.reference,
        link=card.link,
        additional_data=card.additional_data,
        training_log=() if card.weights is None else _training_log(card.weights.with_suffix(".log.csv")),
        classes=classes,
    )


def _training_log(path: Path) -> tuple[Mapping[str, str], ...]:
    if not path.is_file():
        return ()
    return tuple(
        # A line that is too long or too short is somebody else's mistake, which must not cost a measurement.
        {heading: text for heading, text in row.items() if isinstance(heading, str) and isinstance(text, str)}
        for row in csv.DictReader(path.read_text(encoding="utf-8", errors="replace").splitlines())
    )
