"""The state of an unfinished training."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import torch

from hahbench.atomic import replacing
from hahbench.errors import HahbenchError


@dataclasses.dataclass(frozen=True)
class EpochRow:
    """One epoch's row in the log.

    Attributes:
        epoch: counted from 1.
        lr: the learning rate of this epoch.
        loss: mean over the training images of what was minimised, while it was.
        cross_entropy: of this, the part that the labels have; what is beyond it is the recipe's, such as HaH costs.
        train_accuracy: in [0, 1], on the images as trained on: augmented, and perturbed if the training is adversarial.
        test_accuracy: in [0, 1], after the epoch, in evaluation mode.
        seconds: wall time of the training batches and the test together.
    """

    epoch: int
    lr: float
    loss: float
    cross_entropy: float
    train_accuracy: float
    test_accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Everything that the next epoch depends on, after ``len(rows)`` epochs.

    Attributes:
        identity: digest of what is trained, how and on what.
        rows: of the epochs done.
        model: state of the model.
        optimizer: state of the optimiser.
        scheduler: state of the learning-rate schedule.
    """

    identity: str
    rows: tuple[EpochRow, ...]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write to ``path``, which is at no moment half-written.

        Raises:
            OSError: it cannot be written.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["rows"] = [dataclasses.asdict(row) for row in self.rows]
        # Straight to the file, torch.save would turn a full disk into a RuntimeError.
        buffer = io.BytesIO()
        torch.save(fields, buffer)
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    @classmethod
    def load(cls, path: Path, identity: str) -> Checkpoint | None:
        """The checkpoint at ``path``, its tensors on the CPU; None if there is none.

        Raises:
            HahbenchError: it is damaged, or not one of the training that ``identity`` stands for.
        """
        if not path.exists():
            return None
        remedy = "choose another --out, or delete it to train from the start"
        try:
            fields = torch.load(path, map_location="cpu", weights_only=True)
            if fields["identity"] == identity:
                rows = tuple(EpochRow(**row) for row in fields.pop("rows"))
                return cls(rows=rows, **fields)
        except Exception as error:
            # torch.load raises whatever its parser stumbles over.
            raise HahbenchError(f"checkpoint {path} cannot be read ({type(error).__name__}); {remedy}") from error
        raise HahbenchError(
            f"checkpoint {path} is of another model, its code, recipe, data set, number of epochs, or version of "
            f"hahbench; {remedy}"
        )
