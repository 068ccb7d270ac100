"""Copernicus-FM (arXiv 2503.11849): kernels made from wavelengths and bandwidths."""

from fm.errors import FMError, UsageError
from fm.foreign.convert import Choice, Plan, Rule
from fm.foreign.families import trunk
from fm.foreign.reading import Reading
from fm.foreign.recognise import Recognised


def plan(reading: Reading, found: Recognised, choice: Choice) -> Plan:
    """Plan torchgeo's network without its kernels of variables.

    Raises:
        FMError: the table of positions is of no square grid.
        UsageError: another pooling than its norm is of.
    """
    where, numbers = reading.where, found.numbers
    modality = choice.modality(where)
    _, options = trunk.size(found, choice, where)
    if numbers["grid"] is None or not numbers["class_row"]:
        raise FMError(
            f"{where}: {numbers['tokens']} positions are no square grid and a class token"
        )
    # its class token is normalised, the mean of the others after it was taken: one or the other
    pooling = "cls" if numbers["final_norm"] == "norm" else "mean"
    if choice.pooling not in (None, pooling):
        raise UsageError(f"{where}: its norm belongs to pooling {pooling}; leave pooling out")
    own = "fc_norm" if pooling == "mean" else "norm"
    fresh = {}
    if numbers["final_norm"] == "none":
        fresh = trunk.fresh_norm("net.fc_norm", numbers["width"])
    tokens = r"(cls_token|pos_embed|(?:coord|scale|time)_(?:token|fc\.(?:weight|bias)))"
    return Plan(
        "copernicus_base",
        {
            **options,
            "kernel": numbers["patch"],
            "grid": numbers["grid"],
            "codes": numbers["codes"],
            "pooling": pooling,
        },
        numbers["patch"] * choice.gsd(modality),
        (
            Rule(tokens, r"net.\1"),
            Rule(r"patch_embed_spectral\.(.*)", r"net.patch_embed_spectral.\1"),
            Rule(
                r"patch_embed_variable\..*",
                None,
                "another network: kernels of variables without a wavelength",
            ),
            Rule(trunk.BLOCKS, r"net.\1"),
            Rule(rf"({own}\..*)", r"net.\1"),
            *trunk.LEFT_OVER,
        ),
        fresh=fresh,
    )
