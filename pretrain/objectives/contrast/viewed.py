"""Objectives whose backbone sees views of the samples: single images, of a series one each."""

from collections.abc import Mapping

from torch import Tensor

from fm.config import Config
from fm.errors import UsageError
from fm.models import Backbone
from pretrain.augment import ViewConfig, draw_view, seasons
from pretrain.objective import Objective, ObjectiveBatch
from pretrain.objectives.contrast.batch_norm import over_all_ranks
from pretrain.objectives.contrast.siamese import pooled
from pretrain.objectives.contrast.whole import empty_view, whole_view


class ViewedConfig(Config):
    """What objectives over views share.

    Attributes:
        view: how a view is made.
    """

    view: ViewConfig = ViewConfig()


class TwoViewsConfig(ViewedConfig):
    """What objectives over two views share.

    Attributes:
        view: how the first view is made.
        second_view: how the second is made; null makes it as the first.
    """

    second_view: ViewConfig | None = None


class Viewed(Objective):
    """Base of the objectives over views.

    Args:
        backbone: of single images; its batch norms become ones over all ranks.
        config: see `ViewedConfig`.
    """

    config: ViewedConfig

    def __init__(self, backbone: Backbone, config: ViewedConfig) -> None:
        super().__init__()
        config.view.check(backbone.bands, "objective.view")
        over_all_ranks(backbone)
        self.backbone, self.config = backbone, config

    @property
    def takes_series(self) -> bool:
        """Each view is of one image of a series, which are the seasons of a place."""
        return True

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group in a view of pixels as stored."""
        return self.grids_in(pixels, self.config.view, "objective.view")

    def grids_in(
        self, pixels: Mapping[str, Tensor], view: ViewConfig, where: str
    ) -> dict[str, tuple[int, int]]:
        """Return the same, with errors that say of which view they are."""
        try:
            return self.grids_of(pixels, view)
        except UsageError as error:
            if view.size is None:
                raise
            raise UsageError(f"{where}.size={view.size}: {error}") from None

    def grids_of(
        self, pixels: Mapping[str, Tensor], view: ViewConfig
    ) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group in a view that is made in some way."""
        return self.backbone.grids(empty_view(pixels, view.size))

    def weight(self, batch: ObjectiveBatch) -> Tensor:
        """Return the sum of the samples' weights."""
        return batch.weight.sum()

    def features(self, batch: ObjectiveBatch) -> Tensor:
        """Return the backbone's pooled features of whole samples, series by one image: `[B, D]`."""
        (image,) = seasons(batch, batch.rng, 1)
        how = whole_view(self.config.view.size)
        made = draw_view(batch, batch.rng, "whole", how, image, bands=self.backbone.bands)
        return pooled(self.backbone, self.inputs(made), None)


class TwoViews(Viewed):
    """Base of those that compare a first and a second view.

    Attributes:
        how: both are made.
    """

    config: TwoViewsConfig

    def __init__(self, backbone: Backbone, config: TwoViewsConfig) -> None:
        super().__init__(backbone, config)
        if config.second_view is not None:
            config.second_view.check(backbone.bands, "objective.second_view")
        self.how = (config.view, config.second_view or config.view)

    def grids(self, pixels: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
        """Return the token grid of each group in both views of pixels as stored.

        Raises:
            UsageError: two sizes of views.
        """
        names = ("objective.view", "objective.second_view")
        first, second = (
            self.grids_in(pixels, view, name) for view, name in zip(self.how, names, strict=True)
        )
        if first != second:
            raise UsageError(
                f"objective.second_view.size: its tokens would be {second}, those of view {first}; "
                f"give both one size"
            )
        return first
