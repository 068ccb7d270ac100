"""A ViT rebuilt for other modalities: everything but the tokenizers moves as it is."""

from collections.abc import Callable, Mapping, Sequence

import torch

from fm.errors import UsageError
from fm.models import VisionTransformer, create_model
from fm.models.embed import Tokenizer
from fm.models.inputs import Scaling
from fm.models.layout import Member
from fm.normalize import Normalisation
from fm.sensors import Band

_OURS = ("name", "token_m", "tokenizer", "tokenizer_options", "basis")


def rebuilt(
    model: VisionTransformer,
    bands: Mapping[str, Sequence[Band]],
    groups: Mapping[str, str],
    *,
    token_m: Mapping[str, float],
    normalisation: Mapping[str, Normalisation],
    scaling: Scaling,
    tokenizer_of: Callable[[str, Member], Tokenizer],
    basis_of: Mapping[str, str] | None = None,
) -> VisionTransformer:
    """Build a ViT of other bands with the trunk of another.

    Args:
        model: the source; it is not changed.
        bands: modality to bands of the new one.
        groups: its token groups to the source's that they take the place of.
        token_m: its groups to the ground size of a token.
        normalisation: of its modalities.
        scaling: of its modalities.
        tokenizer_of: makes the tokenizer of a modality and member.
        basis_of: its modalities to the source's whose spectral bases they keep.

    Returns:
        the new model in `eval()`, without a card.

    Raises:
        UsageError: another number or order of groups where the place of a group is part of its
            code, or bands that do not fit the tokens.
    """
    if model.group_code_width is not None and list(groups.values()) != list(model.groups):
        raise UsageError(
            f"group_code_width: the code of a group is its place among {', '.join(model.groups)}; "
            f"the data makes {', '.join(groups.values())} of them; give all, in that order"
        )
    options = {k: v for k, v in model.architecture.items() if k not in _OURS}
    given = model.architecture.get("tokenizer_options") or {}
    if isinstance(model.architecture.get("tokenizer") or "", str):
        given = dict.fromkeys(groups.values(), given)
    bases = model.architecture.get("basis") or {}
    other = create_model(
        model.architecture["name"],
        bands={m: tuple(items) for m, items in bands.items()},
        token_m=dict(token_m),
        tokenizer={new: model.embedding(old).tokenizer for new, old in groups.items()},
        tokenizer_options={n: given[o] for n, o in groups.items() if o in given},
        normalisation=normalisation,
        scaling=scaling,
        basis={n: bases[o] for n, o in groups.items() if o in bases} or None,
        **options,
    )
    assert isinstance(other, VisionTransformer)
    state = {
        key: value
        for key, value in model.state_dict().items()
        if not key.startswith(("patch_embed.", "group_embed."))
    }
    for new, old in groups.items():
        code = model.group_embed[old].detach() if old in model.group_embed else None
        if new in other.group_embed:
            own = other.group_embed[new]
            state[f"group_embed.{new}"] = torch.zeros_like(own) if code is None else code
        for number, member in enumerate(other.groups[new].members):
            chosen = tokenizer_of(member.modality, member)
            if code is not None and new not in other.group_embed and not number:
                # one group is left and has no code of its own: the code joins a bias, once
                chosen.add_constant(code.flatten())
            front = f"patch_embed.{new}.embed.{member.modality}."
            state |= {front + key: value for key, value in chosen.state_dict().items()}
            origin = (basis_of or {}).get(member.modality)
            basis = None if origin is None else model.embedding(old).basis_of(origin)
            if basis is not None:
                front = f"patch_embed.{new}.basis.{member.modality}."
                state |= {front + key: value for key, value in basis.state_dict().items()}
    other.load_state_dict(state)
    return other.eval()
