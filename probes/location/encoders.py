"""Location encoders by name, as `fm probe location:NAME` takes them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

import fm.location
from fm.errors import UsageError, suggest
from fm.files import sha256_file
from fm.location.checkpoint import describe
from probes.location import PREFIX
from probes.location.names import ALIASES, PRETRAINED
from probes.location.packages import GEOCLIP, member

_AT_ONCE = 2048


@dataclass
class Encoder:
    """Turns places into features.

    Attributes:
        name: in tables.
        module: takes `[N, 2]` degrees (lon, lat) and returns `[N, D]`.
        kind: `floor`, `random-init` or `pretrained`, as in results.
        about: what else results tell of it.
        seen: the data that it was trained on, as cards of models tell it; empty where unknown.
    """

    name: str
    module: Callable[[torch.Tensor], torch.Tensor]
    kind: str
    about: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def __call__(self, lonlat: np.ndarray) -> NDArray[np.float32]:
        """Encode places `[N, 2]` in degrees, in pieces."""
        places = torch.as_tensor(np.ascontiguousarray(lonlat, np.float64))
        with torch.no_grad():
            parts = [self.module(part).float().numpy() for part in places.split(_AT_ONCE)]
        return np.concatenate(parts)


def get_encoder(
    name: str, cache: Path | None, file: Path | None = None, *, seasons: bool = False
) -> Encoder:
    """Make an encoder.

    Args:
        name: of `ALIASES`; `geoclip`, `geoclip-untrained`; `satclip` with a file; or an encoding
            of `fm.location` with its options, such as `sh,L=30` (those of `rff` stand in the
            place of the alias's); or a folder that
            `fm.location.save` wrote. `location:` may stand before it.
        cache: folder of packages, for GeoCLIP's weights.
        file: weights of `geoclip` (the package's where None) or `satclip`.
        seasons: take encoders that ask for a month too; the tasks of places have none.

    Raises:
        UsageError: there is no such encoder or option.
        FMError: weights that cannot be had or read.
    """
    name = name.removeprefix(PREFIX)
    kind, *words = name.split(",")
    if not kind:
        raise UsageError(f"{PREFIX}{name}: name a location encoder, such as {PREFIX}sh40")
    if file is not None and kind not in PRETRAINED:
        raise UsageError(f"--from is for {' and '.join(PRETRAINED)}; {kind} has no weights")
    if kind in (*PRETRAINED, "geoclip-untrained"):
        if words:
            raise UsageError(f"{kind} takes no options; leave {','.join(words)!r} out")
        return _released(kind, cache, file)
    known = {*ALIASES, *fm.location.list_encodings()}
    if kind not in known and Path(name).is_dir():
        return _of_folder(name, seasons)
    if kind not in known:
        hint = suggest(kind, (*known, *PRETRAINED, "geoclip-untrained"))
        raise UsageError(f"there is no location encoder {kind!r}; {hint}")
    encoding, options = ALIASES.get(kind, (kind, {}))
    given = _options(kind, words)
    if kind != encoding and (own := sorted(options.keys() & given.keys())):
        raise UsageError(
            f"{PREFIX}{name}: {kind} has its own {own[0]}; write {encoding},{','.join(words)}"
        )
    module = fm.location.create_encoding(encoding, **{**options, **given})
    return Encoder(name, module.eval(), "floor", {"architecture": type(module).__name__})


def of_module(name: str, module: nn.Module, kind: str = "pretrained") -> Encoder:
    """Take a module of one's own, such as a `fm.location.LocationEncoder`."""
    about = {"architecture": type(module).__name__, "parameters": _size(module)}
    return Encoder(name, module.eval(), kind, about)


def _of_folder(folder: str, seasons: bool) -> Encoder:
    """Load what `fm.location.save` wrote, by the name that it says: a run's is `RUN/location`."""
    encoder, told = fm.location.load(folder), describe(folder)
    if encoder.month is not None and not seasons:
        raise UsageError(f"location:{folder} has a season; the tasks of places have no month")
    made = of_module(str(told.get("name") or Path(folder).resolve().name), encoder)
    made.about |= {"path": folder, "weights_sha256": told["weights_sha256"]}
    made.seen = dict(told.get("data") or {})
    return made


def _released(kind: str, cache: Path | None, file: Path | None) -> Encoder:
    if kind == "satclip":
        if file is None:
            raise UsageError("location:satclip needs its checkpoint: --from FILE.ckpt")
        made = of_module(f"satclip-{file.stem}", fm.location.satclip(file))
        made.about |= {"path": str(file), "weights_sha256": sha256_file(file)}
        return made
    if file is None and cache is None:
        raise UsageError(
            "location:geoclip: --packages is missing: name a folder, or set EOFM_CACHE"
        )
    if file is None:
        assert cache is not None
        file = member(GEOCLIP, cache)
    module = fm.location.geoclip(file)
    if kind == "geoclip":
        made = of_module("geoclip", module)
        made.about |= {"path": file.name, "weights_sha256": sha256_file(file)}
        return made
    # the same architecture and random frequencies; linear layers as torch starts them
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
            elif isinstance(layer, fm.location.EncodedLinear):
                fresh = nn.Linear(layer.encoding.dim, len(layer.weight))
                layer.weight.data.copy_(fresh.weight.data)
                layer.bias.data.copy_(fresh.bias.data)
    return of_module("geoclip-untrained", module, "random-init")


def _options(kind: str, words: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key:
            raise UsageError(f"location:{kind}: {word!r} is no option; write KEY=VALUE")
        if key in found:
            raise UsageError(f"location:{kind}: {key} is given twice; give it once")
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UsageError(f"location:{kind}: {word!r}: no value that can be read") from None
    return found


def _size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
