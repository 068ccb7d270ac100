"""What a backbone is built to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fm.errors import UsageError
from fm.models.inputs import Scaling
from fm.models.layout import Bands, Group, Member
from fm.normalize import Normalisation


@dataclass(frozen=True)
class Intake:
    """The first argument of every backbone; `fm.create_model` makes it.

    Attributes:
        groups: the token groups, see `fm.models.layout`.
        bands: modality to its bands, in channel order.
        normalisation: modality to its normalisation, in physical units.
        scaling: modality to (scale, offset) of its stored integers.
    """

    groups: Sequence[Group]
    bands: Bands
    normalisation: Mapping[str, Normalisation]
    scaling: Scaling

    def sole_member(self, what: str, stride: int | None) -> Member:
        """Return the only member of a model that takes one modality.

        Args:
            what: the model in a sentence, such as `a ResNet`.
            stride: pixels of a token's side that the network is made for; any when None.

        Raises:
            UsageError: several modalities, a part of one, or tokens of another size.
        """
        members = [member for group in self.groups for member in group.members]
        if len(members) != 1 or members[0].channels is not None:
            raise UsageError(
                f"{what} takes one modality without token_groups; got {', '.join(self.bands)}"
            )
        (member,) = members
        if stride is not None and member.patch != stride:
            raise UsageError(
                f"{member.modality}: {what} makes one token of {stride}x{stride} px; give "
                f"token_m={stride * member.bands[0].gsd_m:g}"
            )
        return member
