"""From foreign keys to ours: every key of both sides is accounted for, or nothing is loaded."""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fm.errors import FMError, UsageError
from fm.foreign.reading import Reading
from fm.foreign.report import Entry, Report
from fm.likeness import TooManyError, likeness
from fm.models import Backbone, create_model
from fm.models.inputs import Scaling
from fm.normalize import Normalisation
from fm.sensors import Band

Bands = Mapping[str, tuple[Band, ...]]


@dataclass(frozen=True)
class Choice:
    """What the caller said; see `fm.foreign.load`."""

    bands: Bands
    normalisation: Mapping[str, Normalisation]
    scaling: Scaling
    heads: int | None = None
    pooling: str | None = None
    token_groups: Mapping[str, Sequence[str]] | None = None
    channel_order: str | None = None
    reference_gsd_m: float | None = None
    layer: str | None = None
    wavelength_range_nm: Sequence[float] | None = None
    perception_m: float | None = None
    position_resize: str | None = None

    def need(self, name: str, where: str, hint: str) -> Any:
        """Return an argument that the file cannot say.

        Raises:
            UsageError: it was not given; names it and says what it is.
        """
        value = getattr(self, name)
        if value is None:
            raise UsageError(f"{where}: the file cannot say {name}; give {name}= ({hint})")
        return value

    def modality(self, where: str, channels: int | None = None) -> str:
        """Return the one modality that a file with one grid takes.

        Args:
            where: the file.
            channels: how many bands the file takes, None if it does not matter.

        Raises:
            UsageError: several modalities, several grids or another number of bands.
        """
        if len(self.bands) != 1:
            raise UsageError(
                f"{where}: all its bands lie on one grid; give bands= of one modality, not of "
                f"{', '.join(self.bands) or 'none'} (fm.foreign.on_grid makes one)"
            )
        modality, items = next(iter(self.bands.items()))
        if channels is not None and len(items) != channels:
            raise UsageError(
                f"{where}: takes {channels} bands, {modality} has {len(items)} "
                f"({', '.join(band.name for band in items)})"
            )
        return modality

    def gsd(self, modality: str) -> float:
        """Return the sampling distance of a modality in metres."""
        return self.bands[modality][0].gsd_m


@dataclass(frozen=True)
class Rule:
    """What becomes of the keys that a pattern matches.

    Attributes:
        pattern: of the whole foreign key.
        target: our key, which may name the pattern's groups; None drops it.
        reason: why it is dropped, or what `change` does.
        change: lays the values out anew.
    """

    pattern: str
    target: str | None
    reason: str = ""
    change: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Plan:
    """How one file becomes one of our models.

    Attributes:
        name: of `create_model`.
        options: of `create_model`.
        token_m: ground size of a token, metres.
        rules: the first that matches a key decides.
        token_groups: of `create_model`.
        fresh: our keys that the file rightly lacks, each with the value and why.
        notes: facts for the report.
    """

    name: str
    options: Mapping[str, Any]
    token_m: float | Mapping[str, float]
    rules: tuple[Rule, ...]
    token_groups: Mapping[str, Sequence[str]] | None = None
    fresh: Mapping[str, tuple[Tensor, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def convert(reading: Reading, family: str, plan: Plan, choice: Choice) -> tuple[Backbone, Report]:
    """Build the model of a plan and fill it.

    Returns:
        the model in `eval()`, and what became of every key.

    Raises:
        FMError: keys without a rule, keys of ours without a value, wrong shapes or values that
            are not finite; says how many of each and names the first. Nothing is loaded.
    """
    make = partial(
        create_model,
        plan.name,
        bands=choice.bands,
        token_m=plan.token_m,
        token_groups=plan.token_groups,
        normalisation=choice.normalisation,
        scaling=choice.scaling,
        **plan.options,
    )
    try:  # sizes of a few small tensors say how large all of it is: nothing is made before a look
        own = likeness(make, len(reading.state)).state_dict()
    except TooManyError:
        raise FMError(
            f"{reading.where}: not a whole {family}: its {len(reading.state)} keys are too few for "
            f"its sizes; nothing was loaded"
        ) from None
    entries, filled, wrong = _apply(reading.state, plan.rules, own)
    for key, (value, _) in plan.fresh.items():
        filled.setdefault(key, value)
    wrong["missing"] = sorted(set(own) - set(filled))
    if any(wrong.values()):
        taken = sum(entry.target is not None for entry in entries)
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for what, keys in wrong.items()
            if keys
        ]
        raise FMError(
            f"{reading.where}: not a whole {family}: {taken} of {len(reading.state)} keys fit; "
            f"{'; '.join(parts)}; nothing was loaded"
        )
    with torch.random.fork_rng(devices=[]):
        model = make()
    model.load_state_dict(filled)
    report = Report(
        family=family,
        where=reading.where,
        sha256=reading.sha256,
        entries=(*entries, *_left_out(reading)),
        fresh={key: why for key, (_, why) in plan.fresh.items()},
        aliases=reading.aliases,
        prefix=reading.prefix,
        beside=reading.beside,
        notes=(*reading.notes, *plan.notes, *_assumed(plan, choice)),
    )
    return model.eval(), report


def _left_out(reading: Reading) -> list[Entry]:
    """Report the keys that were left out when one network of several was taken."""
    return [Entry(k, None, "dropped", why, shape) for k, (why, shape) in reading.left.items()]


def _assumed(plan: Plan, choice: Choice) -> tuple[str, ...]:
    """Say what was assumed where neither the file nor the caller named it."""
    options = plan.options
    notes = []
    if choice.pooling is None and "pooling" in options and not options.get("pre_pool_norm"):
        notes.append(
            f"pooling: {options['pooling']} assumed, as none was given; the file cannot say"
        )
    if choice.position_resize is None and options.get("layer_scale") and "grid" in options:
        grid = options["grid"]
        notes.append(
            f"position_resize: timm assumed, as none was given; matters for other grids than "
            f"{grid}x{grid} tokens, which DINOv2's own code makes with dinov2"
        )
    return tuple(notes)


def _apply(
    state: Mapping[str, Tensor], rules: Sequence[Rule], own: Mapping[str, Tensor]
) -> tuple[list[Entry], dict[str, Tensor], dict[str, list[str]]]:
    """Return entries, our state and what is wrong."""
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    entries: list[Entry] = []
    filled: dict[str, Tensor] = {}
    wrong: dict[str, list[str]] = {
        "not known": [],
        "wrong shape": [],
        "twice": [],
        "complex": [],
        "not finite": [],
    }
    for key, value in state.items():
        shape = tuple(value.shape)
        found = next(((m, r) for p, r in compiled if (m := p.fullmatch(key))), None)
        if found is None:
            wrong["not known"].append(key)
            continue
        match, rule = found
        if rule.target is None:
            entries.append(Entry(key, None, "dropped", rule.reason, shape))
            continue
        target = match.expand(rule.target)
        if target not in own:
            wrong["not known"].append(key)
            continue
        made = value.detach()
        if rule.change is not None and made.ndim > 0:
            with contextlib.suppress(LookupError, RuntimeError):  # other axes: a wrong shape
                made = rule.change(made)
        if made.shape != own[target].shape:
            sizes = f"{key} {list(shape)}, expected {list(own[target].shape)}"
            wrong["wrong shape"].append(sizes)
            continue
        if target in filled:
            wrong["twice"].append(f"{key} for {target}")
            continue
        if made.is_complex():
            wrong["complex"].append(key)
            continue
        made = made.to(own[target].dtype)
        if made.is_floating_point() and not bool(torch.isfinite(made).all()):
            wrong["not finite"].append(key)
            continue
        filled[target] = made
        how = "reshaped" if rule.change is not None else "used" if key == target else "renamed"
        entries.append(Entry(key, target, how, rule.reason, shape))  # type: ignore[arg-type]
    return entries, filled, wrong
