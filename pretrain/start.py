"""The weights a run begins with: a checkpoint of ours, or a weight file of others."""

from pathlib import Path

from fm.adapt import to_bands
from fm.checkpoint import elsewhere, load, load_strict, read_card
from fm.console import note
from fm.errors import FMError, UsageError
from fm.first_layer import POLICIES, begin_with, check_unseen
from fm.models import Backbone
from fm.weights import is_carried
from pretrain.config import RunConfig
from pretrain.others import weights_of_others
from pretrain.ranks import collective
from pretrain.settings.init import InitConfig


def start_from(backbone: Backbone, config: RunConfig) -> None:
    """Load the weights of `init_from`, adapted where the data has other bands.

    Pixels are normalised by the run's own data, whatever the weights were trained with.

    Args:
        backbone: with fresh weights.
        config: names the weights, and by `init` what they cannot say.

    Raises:
        UsageError: the bands cannot be had from the weights'; a foreign file without the settings
            that it needs.
        FMError: the weights do not fit the model.
    """
    assert config.init_from is not None
    settings = config.init or InitConfig()
    where = f"init_from={config.init_from}"
    if settings.tolerance_nm is not None and settings.first_layer != "nearest":
        raise UsageError("init.tolerance_nm is for init.first_layer=nearest; leave it out")
    parent = _parent(config.init_from, settings)
    if settings.first_layer is not None:
        begun = begin_with(backbone, parent, settings.first_layer, where, settings.tolerance_nm)
        if collective.rank() == 0:
            note(f"{where}: first layer {settings.first_layer}: {begun.text()}")
        return
    if _names(parent) != _names(backbone):
        try:
            parent, told = to_bands(parent, backbone.bands)
        except UsageError as error:
            raise UsageError(
                f"{where}: {error}; to train on with other bands set init.first_layer"
            ) from None
        if collective.rank() == 0:
            left = [name for names in told["dropped"].values() for name in names]
            left += told["absent"]
            note(f"{where}: adapted to the data's bands; without {', '.join(left) or 'loss'}")
    check_unseen(backbone, parent, where)
    load_strict(backbone, parent.state_dict(), where)


def parent_of(config: RunConfig) -> str | None:
    """Say for a card what a run began with."""
    if config.init_from is None:
        return None
    if is_carried(config.init_from) or Path(config.init_from).is_dir():
        words = f"{read_card(config.init_from).name} ({config.init_from})"
    else:
        named = config.init.known if config.init else None
        words = f"{named or 'weights of others'} ({config.init_from})"
    policy = config.init.first_layer if config.init else None
    return words if policy is None else f"{words}, first layer {policy}"


def _parent(source: str, settings: InitConfig) -> Backbone:
    if is_carried(source) or not Path(source).is_file():
        if wrong := settings.of_files:
            if not (is_carried(source) or Path(source).is_dir()):
                raise FMError(
                    f"init_from={source}: no such file{elsewhere(source)}; give the weights by "
                    f"init_from=FILE"
                )
            raise UsageError(
                f"init.{wrong[0]} is for weight files of others; {source} is a checkpoint of ours, "
                f"whose card says it"
            )
        return load(source)
    if settings.first_layer is None:
        raise UsageError(
            f"init_from={source}: a weight file of others; say what becomes of its first layer by "
            f"init.first_layer, one of {', '.join(POLICIES)} (select where the bands are the same)"
        )
    # the run normalises its own pixels
    return weights_of_others(source, settings, "init", normalisation="identity")


def _names(model: Backbone) -> dict[str, list[str]]:
    return {modality: [band.name for band in bands] for modality, bands in model.bands.items()}
