"""The training loop: a model card and a data set in; weights, a card and a log out."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from hahbench.atomic import replacing
from hahbench.data.base import ImageSet
from hahbench.errors import DataError, HahbenchError
from hahbench.models.attributes import attributes, without_addresses
from hahbench.models.load import build_model, check_classifier, fastest_memory_format, model_code, save_weights
from hahbench.registry import FOREIGN_ERRORS, one_line
from hahbench.spec import ModelCard, digest
from hahbench.training.augment import augment
from hahbench.training.card import card_toml, loader_path, trained_card
from hahbench.training.checkpoint import Checkpoint, EpochRow
from hahbench.training.recipe import Recipe

TEST_BATCH_SIZE = 500


def train(
    card: ModelCard,
    dataset: ImageSet,
    *,
    test: ImageSet,
    out: Path,
    epochs: int | None = None,
    device: torch.device,
    on_batch: Callable[[float, float, float], None] | None = None,
    on_epoch: Callable[[EpochRow], None] | None = None,
) -> ModelCard:
    """Train a model from its initial weights, by the recipe in its card.

    After each epoch a checkpoint is written, from which a training that was killed goes on when it is started again; on
    the CPU with the same number of threads its result is the same, bit for bit, as without the interruption.
    Written to ``out``, under the card's name with what is unsafe in a file name replaced by ``-``: ``.log.csv`` (a row
    an epoch, the fields of :class:`EpochRow`), ``.safetensors`` (float16 where its range suffices) and ``.toml``,
    the card of the trained model.

    Args:
        card: what to train. Its weights, if any, are not used, and a warning says so.
        dataset: the images to train on.
        test: the images to report the accuracy on after each epoch; they decide nothing.
        out: folder for the files; made when it is missing.
        epochs: in place of the recipe's. The milestones, being fractions, move along.
        device: where to compute.
        on_batch: called after each batch with the fraction of all batches that is done, the batch's loss and accuracy.
        on_epoch: called after each epoch, when its checkpoint is on disk.

    Returns:
        The card of the trained model, named ``<dataset>/<card name>``, without the folder in the card's own name.

    Raises:
        CatalogError: the recipe is wrong.
        DataError: the test images differ from the training images in shape or classes.
        ModelError: the model cannot be built, does not map the images to a logit for each class, or lacks the HaH
            blocks that the recipe's cost needs.
        HahbenchError: ``out`` cannot be written or has too little room, holds the trained model already, or holds the
            checkpoint of another training; no card file can name the loader or hold the params; the loss is not finite;
            or the model or the optimiser raises.
    """
    check_trainable(card, out)
    if card.weights is not None:
        warnings.warn(
            f"model {card.name!r}: training starts from initial weights; {card.weights.name} is not used", stacklevel=2
        )
    recipe = Recipe.from_card(card)
    if epochs is not None:
        if epochs < 1:
            raise HahbenchError(f"epochs must be at least 1, not {epochs}")
        recipe = dataclasses.replace(recipe, epochs=epochs)
    if test.classes != dataset.classes or test.images.shape[1:] != dataset.images.shape[1:]:
        raise DataError(f"the test images of {test.name!r} differ in shape or classes from the training images")
    return _train(_Training(card, recipe, dataset, test, device), _Files(out, card.name), on_batch, on_epoch)


def check_trainable(card: ModelCard, out: Path) -> None:
    """Check what can be checked before the images are read, which may take a download.

    Raises:
        CatalogError: the card has no recipe, or a wrong one.
        HahbenchError: ``out`` holds the trained model already, or the card of the trained model could not name the
            loader.
    """
    Recipe.from_card(card)
    loader_path(card, out)
    files = _Files(out, card.name)
    if files.card.exists() and not files.checkpoint.exists():
        if Path(card.argument).resolve() == files.card.resolve():
            raise HahbenchError(
                f"{files.card} is the card that is trained; choose another --out than its folder, or give the card a "
                "key 'name', after which the trained one is called"
            )
        raise HahbenchError(f"{files.card} holds this model already; choose another --out, or delete it to train again")


class _Files:
    """Where the files of one training lie."""

    def __init__(self, out: Path, name: str) -> None:
        stem = re.sub(r"[^\w.+-]+", "-", name)
        self.out = out
        self.checkpoint = out / f"{stem}.checkpoint.pt"
        self.weights = out / f"{stem}.safetensors"
        self.card = out / f"{stem}.toml"
        self.log = out / f"{stem}.log.csv"


class _Training:
    """What changes from epoch to epoch, and what it is made from."""

    def __init__(
        self, card: ModelCard, recipe: Recipe, dataset: ImageSet, test: ImageSet, device: torch.device
    ) -> None:
        self.card = card
        self.recipe = recipe
        self.dataset = dataset
        self.test = test
        self.device = device
        self.rows: tuple[EpochRow, ...] = ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = build_model(card, len(dataset.classes)).eval()
        check_classifier(model, dataset.first(1).images, len(dataset.classes), card.name)
        self.code = [without_addresses(repr(model)), attributes(model), *model_code(card, model)]
        self.memory_format = fastest_memory_format(model)
        self.model = model.to(device).to(memory_format=self.memory_format)
        with self._errors_in_one_line():
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=recipe.lr, fused=True)
        milestones = [round(fraction * recipe.epochs) for fraction in recipe.milestones]
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones)

    @property
    def identity(self) -> str:
        """Digest of all that the result depends on, the machine and the code of the training itself aside."""
        loader = self.card.loader
        if not isinstance(loader, str):
            loader = str(getattr(loader, "__qualname__", type(loader).__qualname__))
        recipe = dataclasses.asdict(self.recipe) | {"cost": repr(self.recipe.cost)}
        data = [self.dataset.digest, self.test.digest]
        return digest(self.card.name, loader, dict(self.card.params), self.code, recipe, *data)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to the state of ``checkpoint``."""
        self.rows = checkpoint.rows
        with self._errors_in_one_line():
            self.model.load_state_dict(checkpoint.model)
            self.optimizer.load_state_dict(checkpoint.optimizer)
            self.scheduler.load_state_dict(checkpoint.scheduler)

    def checkpoint(self) -> Checkpoint:
        """The present state."""
        return Checkpoint(
            self.identity,
            self.rows,
            self.model.state_dict(),
            self.optimizer.state_dict(),
            self.scheduler.state_dict(),
        )

    def epoch(self, on_batch: Callable[[float, float, float], None] | None) -> None:
        """One pass over the training images and one over the test images."""
        began = time.perf_counter()
        recipe, epoch = self.recipe, len(self.rows)
        # A seed for each epoch: a resumed training draws what an uninterrupted one draws.
        seed = int(digest(recipe.seed, epoch)[:15], 16)
        generator = Generator().manual_seed(seed)
        batches = torch.split(torch.randperm(len(self.dataset), generator=generator), recipe.batch_size)
        lr = float(self.scheduler.get_last_lr()[0])
        total_loss, total_cross_entropy, correct = 0.0, 0.0, 0
        self.model.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            # The model may draw from the global generator, as dropout does.
            torch.manual_seed(seed)
            for number, rows in enumerate(batches, start=1):
                with self._errors_in_one_line():
                    crops = augment(self.dataset.images[rows].to(self.device), generator)
                    images = _pixels(crops, self.memory_format)
                    labels = self.dataset.labels[rows].to(self.device)
                    loss, logits = recipe.cost(self.model, images, labels, generator)
                    cross_entropy = functional.cross_entropy(logits.detach(), labels)
                    value, of_labels = torch.stack([loss.detach(), cross_entropy]).tolist()
                    if not math.isfinite(value):
                        raise HahbenchError(
                            f"training {self.card.name!r}: the loss is {value} in epoch {epoch + 1}, batch {number}; "
                            f"try a smaller train.lr than {recipe.lr:g}"
                        )
                    self.optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    self.optimizer.step()
                    right = int((logits.argmax(1) == labels).sum())
                total_loss += value * len(rows)
                total_cross_entropy += of_labels * len(rows)
                correct += right
                if on_batch is not None:
                    on_batch((epoch + number / len(batches)) / recipe.epochs, value, right / len(rows))
            with self._errors_in_one_line():
                test_accuracy = _accuracy(self.model, self.test, self.device, self.memory_format)
        self.scheduler.step()
        size = len(self.dataset)
        seconds = time.perf_counter() - began
        row = EpochRow(
            epoch + 1, lr, total_loss / size, total_cross_entropy / size, correct / size, test_accuracy, seconds
        )
        self.rows = (*self.rows, row)

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except HahbenchError:
            raise
        except FOREIGN_ERRORS as error:
            raise HahbenchError(
                f"training {self.card.name!r}: epoch {len(self.rows) + 1} raised {one_line(error)}; "
                "the epochs finished before are kept"
            ) from error


def _train(
    training: _Training,
    files: _Files,
    on_batch: Callable[[float, float, float], None] | None,
    on_epoch: Callable[[EpochRow], None] | None,
) -> ModelCard:
    card, recipe = training.card, training.recipe
    trained = trained_card(card, training.dataset.name, recipe.to_card(card), files.weights)
    checkpoint = Checkpoint.load(files.checkpoint, training.identity)
    if checkpoint is not None:
        training.resume(checkpoint)
    else:
        # What cannot be written is better known now than after hours.
        card_toml(trained)
        with _writing_to(files.out):
            _check_room(training.model, files.out)
            training.checkpoint().save(files.checkpoint)
            # With no epoch done it would only stand in the way of a mended recipe.
            files.checkpoint.unlink()
    while len(training.rows) < recipe.epochs:
        training.epoch(on_batch)
        with _writing_to(files.out):
            training.checkpoint().save(files.checkpoint)
            _write_log(training.rows, files.log)
        if on_epoch is not None:
            on_epoch(training.rows[-1])
    with _writing_to(files.out):
        # A kill may have come between the last checkpoint and its log.
        _write_log(training.rows, files.log)
        trained = dataclasses.replace(trained, sha256=save_weights(training.model, files.weights, half=True))
        with replacing(files.card) as temporary:
            temporary.write_text(card_toml(trained), encoding="utf-8")
        files.checkpoint.unlink()
    return trained


@contextmanager
def _writing_to(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HahbenchError(f"{out} cannot be written: {error.strerror or error}; choose another --out") from error


def _pixels(images: Tensor, memory_format: torch.memory_format) -> Tensor:
    return images.to(torch.float32, memory_format=memory_format).div_(255)


@torch.no_grad()
def _accuracy(model: nn.Module, images: ImageSet, device: torch.device, memory_format: torch.memory_format) -> float:
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for rows in torch.split(torch.arange(len(images)), TEST_BATCH_SIZE):
        batch = _pixels(images.images[rows].to(device), memory_format)
        correct += (model(batch).argmax(1) == images.labels[rows].to(device)).sum()
    return int(correct) / len(images)


def _check_room(model: nn.Module, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    # A checkpoint holds the weights and Adam's two moments; the next one is written before it replaces the last.
    needed = 2 * 3 * sum(tensor.nbytes for tensor in model.state_dict().values())
    free = shutil.disk_usage(out).free
    if free < needed:
        raise HahbenchError(
            f"{out} has {free / 1e6:.0f} MB free; the checkpoints need {needed / 1e6:.0f} MB; choose another --out"
        )


def _write_log(rows: tuple[EpochRow, ...], path: Path) -> None:
    with replacing(path) as temporary:
        pd.DataFrame([dataclasses.asdict(row) for row in rows]).to_csv(temporary, index=False)
