"""The frozen model that a run learns from: read, verified, and told of in the student's card."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from fm import weights as carried
from fm.card import Card
from fm.checkpoint import elsewhere, load, read_card
from fm.console import note
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.models import Backbone
from pretrain.config import RunConfig
from pretrain.data import Layout
from pretrain.objectives.distill.objective import Taught
from pretrain.others import weights_of_others
from pretrain.ranks import collective
from pretrain.settings.model import ModelConfig
from pretrain.settings.teacher import TeacherConfig

WHERE = "objective.teacher"


def pinned(config: RunConfig) -> RunConfig:
    """Write the hash of the teacher's weights into a run's config, so that it is part of the run.

    Raises:
        FMError: there is no such checkpoint, or its weights are not those that were asked for.
    """
    settings = config.teacher
    if settings is None:
        return config
    found = _sha256(settings)
    return config.taught_by(settings.model_copy(update={"sha256": found}))


def _sha256(settings: TeacherConfig) -> str:
    """Return the hash of the weights: what a folder's card says, which reading it compares."""
    source = _place(settings)
    if source.is_dir():
        with _told():
            found = read_card(source).weights_sha256
    elif source.is_file():
        found = sha256_file(source)
    else:
        hint = elsewhere(settings.source) or "; train the teacher first, or name another"
        raise FMError(
            f"{WHERE}.source={settings.source}: no such checkpoint folder or weight file{hint}"
        )
    if settings.sha256 not in (None, found):
        raise FMError(
            f"{WHERE}.source={settings.source}: the weights there are {found[:12]}..., not the "
            f"{str(settings.sha256)[:12]}... of {WHERE}.sha256"
        )
    return found


def teacher_of(
    settings: TeacherConfig, layout: Layout, build: Callable[[ModelConfig], Backbone]
) -> Taught:
    """Read a teacher for samples of some layout.

    Args:
        settings: what the config says of it.
        layout: of the samples.
        build: makes a network with fresh weights for them: on the meta device (plans) it stands
            for a teacher that is not there and whose `model` is told.

    Raises:
        FMError: it is not there, damaged, another than was asked for or than `model` says.
        UsageError: a foreign file without the settings that it needs.
    """
    device = torch.get_default_device()
    if device.type == "meta" and settings.model is not None and not _place(settings).exists():
        return Taught(build(settings.model).eval(), layout.bands)
    found = _sha256(settings)
    with torch.device("cpu"):
        model = _read(settings)
    if settings.model is not None:
        _compare(model, settings.model, settings.source)
    assert model.card is not None
    model.card = replace(model.card, weights_sha256=found)
    return Taught(model.to(device), layout.bands)


@contextmanager
def _told() -> Iterator[None]:
    """Say of errors that they are about the teacher."""
    try:
        yield
    except FMError as error:
        raise type(error)(f"{WHERE}: {error}") from None


def _place(settings: TeacherConfig) -> Path:
    with _told():
        return carried.place(settings.source)


def _read(settings: TeacherConfig) -> Backbone:
    source = _place(settings)
    of_files = [*settings.of_files]
    of_files += [key for key in ("normalisation", "pooling") if getattr(settings, key) is not None]
    if source.is_file():
        return weights_of_others(
            str(source),
            settings,
            WHERE,
            normalisation=settings.normalisation,
            pooling=settings.pooling,
        )
    if of_files:
        raise UsageError(
            f"{WHERE}.{of_files[0]} is for weight files of others; {source} is a checkpoint "
            f"folder, whose card says it"
        )
    with _told():
        return load(source)


def _compare(model: Backbone, told: ModelConfig, source: str) -> None:
    """Refuse a checkpoint of another network than the recipe says."""
    own = model.architecture
    for key, wanted in {"name": told.name, **told.options}.items():
        if own.get(key) != wanted:
            raise FMError(
                f"{WHERE}.model: {key} is {wanted}, of {source} it is {own.get(key)}; leave "
                f"{WHERE}.model out, or name the right checkpoint"
            )


def compared_widths(student: Backbone, teacher: Backbone) -> None:
    """Tell where a student is larger than its teacher, which is allowed and rarely meant."""
    if student.width > teacher.width and collective.rank() == 0:
        note(
            f"{WHERE}: the student is wider than its teacher ({student.width} against "
            f"{teacher.width} channels)"
        )


def as_parents(cards: Sequence[Card], config: RunConfig) -> list[str]:
    """Say for a student's card who taught it: name, place, hash of the weights, licence."""
    source = "" if config.teacher is None else f"{config.teacher.source}, "
    return [
        f"teacher {card.name} ({source}weights sha256 {card.weights_sha256}, licence "
        f"{card.licence})"
        for card in cards
    ]
