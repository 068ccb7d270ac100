"""Change between two dates, a class a pixel."""

from typing import Literal, Self

from pydantic import model_validator

from probes.settings.training import OnMaps


class Change(OnMaps):
    """Two dates encoded apart by the same backbone, joined, then a head as in `Dense`.

    `pair` joins the maps: `difference` is |a - b|, which does not know which date came first;
    `concat` is [a; b]; `transformer` lets `blocks` blocks of attention over the tokens of both
    dates see each other, `channels` wide, and gives [a; b] of what comes out.
    """

    family: Literal["change"]
    pair: Literal["difference", "concat", "transformer"]
    blocks: int = 2

    @model_validator(mode="after")
    def _one_level(self) -> Self:
        if self.pair == "transformer" and self.head == "upernet":
            raise ValueError("pair transformer works on the last tokens: give head linear or fcn")
        if self.blocks < 1:
            raise ValueError("blocks: give a whole number from 1")
        return self
