"""Kinds of numbers that several sections take."""

from typing import Annotated

from pydantic import Field

Positive = Annotated[int, Field(gt=0)]
