"""The Vision Transformer trunk."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from fm.errors import UsageError
from fm.models.backbone import Backbone
from fm.models.embed import PatchEmbed, SpectralBasis
from fm.models.features import Features, pool
from fm.models.inputs import Inputs
from fm.models.intake import Intake
from fm.models.layout import Member
from fm.models.metadata import MetadataTokens
from fm.models.positions import resized_positions, sincos_1d, sincos_2d
from fm.models.series import PARTS, codes_at, time_codes, with_times


class VisionTransformer(Backbone):
    """A ViT (Dosovitskiy et al., arXiv 2010.11929) on native-grid tokens.

    The trunk's state-dict keys are timm's (`cls_token`, `blocks.{i}...`, `norm`).

    Args:
        intake: see `Intake`.
        width: D.
        depth: number of blocks.
        heads: attention heads; must divide `width`.
        mlp_ratio: hidden width of the MLP over D.
        tokenizer: a name of `fm.models.embed.TOKENIZERS`, one for all groups or one a group.
        tokenizer_options: arguments of the tokenizer; with one a group, group to arguments.
        basis: group to the arguments of `fm.models.embed.SpectralBasis`, a front end that makes
            decorrelated components of any band list; it must be fitted to unlabelled pixels.
        positions: `sincos`, fixed 2-D codes of the token grid (He et al., arXiv 2111.06377,
            appendix A), made for whatever grid comes in; `metres`, the same at the token's place on
            the ground over `reference_m` (Scale-MAE, arXiv 2212.14532, eq. 4), so that images of
            other sampling distances may come in; `learned`, a table resized to the grid.
        reference_m: ground distance that counts as one step of `metres`.
        grid: tokens along one side of the learned table.
        position_resize: how the learned table is fitted to other grids, see `resized_positions`.
        registers: tokens without a place behind the class token, seen by the others and left out
            of the features (Darcet et al., arXiv 2309.16588); the key is timm's `reg_token`.
        group_code_width: None adds a learned code to the tokens of each group when there are
            several; a number makes that many last channels of the position code a code of the
            group instead (SatMAE, Cong et al., arXiv 2207.08051, section 3.3): fixed, or learned
            with `learned` positions, under the keys that SatMAE's fine-tuned files have.
        time_code_width: a number makes that many last channels of the position code a fixed code
            of the image's year, month and hour (SatMAE, section 3.2: 384 of 1024), and lets a
            sample be a series of images, all their tokens in one sequence
            (`fm.models.series`). An image of unknown time has zeros there.
        metadata: tokens for `lonlat`, `time`, seen by the others and left out of the features.
        pooling: `mean` of the valid tokens, or the class token.
        pre_pool_norm: True is timm's `fc_norm`: tokens are averaged first and normalised then.
        layer_scale: initial value of LayerScale; None or 0 leaves it out.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        tokenizer: str | Mapping[str, str] = "linear",
        tokenizer_options: Mapping[str, Any] | None = None,
        basis: Mapping[str, Mapping[str, Any]] | None = None,
        positions: Literal["sincos", "metres", "learned"] = "sincos",
        reference_m: float = 120.0,
        grid: int | None = None,
        position_resize: Literal["timm", "dinov2"] = "timm",
        registers: int = 0,
        group_code_width: int | None = None,
        time_code_width: int | None = None,
        metadata: Sequence[str] = (),
        pooling: Literal["mean", "cls"] = "mean",
        pre_pool_norm: bool = False,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__(intake)
        if width % heads or width % 4:
            raise UsageError(f"width {width} must be a multiple of 4 and of heads {heads}")
        names = [group.name for group in intake.groups]
        kinds = _a_group("tokenizer", tokenizer, names)
        options: Mapping[str, Any] = tokenizer_options or {}
        if isinstance(tokenizer, str):
            options = dict.fromkeys(names, options)
        elif wrong := sorted(set(options) - set(names)):
            raise UsageError(f"tokenizer_options must name groups of {names}; check {wrong}")
        self.width, self.depth = width, depth
        self.positions, self.reference_m = positions, reference_m
        self.metric = positions == "metres"
        self.position_resize = position_resize
        self.pooling, self.pre_pool_norm = pooling, pre_pool_norm
        if wrong := sorted(set(basis or {}) - set(names)):
            raise UsageError(f"basis must name groups of {names}; check {wrong}")
        self.patch_embed = nn.ModuleDict(
            {
                g.name: PatchEmbed(
                    g,
                    width,
                    kinds[g.name],
                    options.get(g.name),
                    basis=(basis or {}).get(g.name),
                    normalisation=intake.normalisation,
                )
                for g in intake.groups
            }
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if registers < 0:
            raise UsageError(f"registers {registers} must not be negative")
        self.reg_token = nn.Parameter(torch.zeros(1, registers, width)) if registers else None
        self.group_embed = nn.ParameterDict()
        self.group_code_width = group_code_width
        if group_code_width is None and len(self.groups) > 1:
            self.group_embed.update(
                {name: nn.Parameter(torch.zeros(1, 1, width)) for name in self.groups}
            )
        if group_code_width is not None and (
            group_code_width % 2 or (width - group_code_width) % 4 or group_code_width >= width
        ):
            raise UsageError(
                f"group_code_width {group_code_width} must be even, below width {width}, and leave "
                f"a multiple of 4"
            )
        self.time_code_width = time_code_width
        self.series = time_code_width is not None
        if time_code_width is not None:
            self._check_time_code(time_code_width, width - (group_code_width or 0))
        self.pos_embed: nn.Parameter | None = None
        if positions == "learned":
            if grid is None:
                raise UsageError("positions learned needs grid")
            share = group_code_width or 0
            places = width - share - (time_code_width or 0)
            self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, places))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
            if share:
                self.channel_embed = nn.Parameter(torch.zeros(1, len(names), share))
                self.channel_cls_embed = nn.Parameter(torch.zeros(1, 1, share))
                nn.init.trunc_normal_(self.channel_embed, std=0.02)
        self.metadata = MetadataTokens(tuple(metadata), width) if metadata else None
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(
                width,
                heads,
                mlp_ratio,
                qkv_bias=True,
                init_values=layer_scale or None,
                norm_layer=norm,
            )
            for _ in range(depth)
        )
        self.norm = norm(width)
        self.apply(_init_weights)
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        for code in self.group_embed.values():
            nn.init.normal_(code, std=0.02)

    def _check_time_code(self, share: int, width: int) -> None:
        if self.bases():
            raise UsageError(
                "time_code_width does not go with options.basis, which estimates bands that a "
                "sample lacks and not those that one image of it lacks; leave one of them out"
            )
        if share <= 0 or share % PARTS or share >= width:
            raise UsageError(
                f"time_code_width {share} must be a multiple of {PARTS} below the {width} channels "
                f"of the position code"
            )
        for name in self.groups:
            for member in self.groups[name].members:
                if self.embedding(name).member_tokenizer(member.modality).shift:
                    raise UsageError(
                        "time_code_width does not go with a tokenizer that reads beyond its token "
                        "(shift): it would read other images"
                    )

    def embedding(self, group: str) -> PatchEmbed:
        """Return what makes the tokens of a group."""
        return cast(PatchEmbed, self.patch_embed[group])

    def takes_other_bands(self, modality: str) -> bool:
        """Say whether every tokenizer of a modality is a function of the band list."""
        members = [
            (embedding.basis_of(modality), embedding.member_tokenizer(modality), m.channels)
            for embedding in map(self.embedding, self.groups)
            for m in embedding.group.members
            if m.modality == modality
        ]
        return bool(members) and all(
            channels is None and (basis is not None or tokenizer.flexible)
            for basis, tokenizer, channels in members
        )

    def bases(self) -> list[tuple[Member, SpectralBasis]]:
        """Return the members with a spectral basis, and the bases."""
        found = []
        for embedding in map(self.embedding, self.groups):
            for member in embedding.group.members:
                basis = embedding.basis_of(member.modality)
                if basis is not None:
                    found.append((member, basis))
        return found

    @property
    def prefix_count(self) -> int:
        """Number of tokens in front of the image's: the class token, registers, the metadata."""
        registers = 0 if self.reg_token is None else self.reg_token.shape[1]
        return 1 + registers + (len(self.metadata.kinds) if self.metadata is not None else 0)

    def position_codes(
        self,
        inputs: Inputs,
        width: int | None = None,
        group_width: int | None = None,
        time_width: int | None = None,
    ) -> dict[str, Tensor]:
        """Return fixed codes of all tokens of each present group, for a decoder or for itself.

        Args:
            inputs: the batch.
            width: D of the codes; the model's own when None.
            group_width: last channels that are the group's code, for a model with
                `group_code_width`; as large a share as the model's own when None.
            time_width: channels behind those that are the image's time, for a model with
                `time_code_width`, likewise.

        Returns:
            group to `[N, width]` float32, or `[B, N, width]` with a code of times.
        """
        width = self.width if width is None else width
        device = next(iter(inputs.pixels.values())).device
        share = self._group_share(width, group_width)
        times = time_codes(inputs, self._time_share(width, time_width))
        if times is not None:
            width = width - times.shape[-1]
        result = {}
        for number, name in enumerate(self.groups):
            grid = self.groups[name].grid(inputs.pixels)
            if grid is None:
                continue
            rows, columns = grid[0] // inputs.images, grid[1]
            step = self._step(name, inputs)
            made = sincos_2d(width - share, rows, columns, device=device, step=step)
            if share:
                index = torch.full((made.shape[0],), float(number), device=device)
                made = torch.cat([made, sincos_1d(share, index)], dim=1)
            result[name] = made if times is None else with_times(made, times)
        return result

    def prefix_code(
        self,
        device: torch.device,
        width: int,
        group_width: int | None = None,
        time_width: int | None = None,
    ) -> Tensor:
        """Return a decoder's code of the tokens that have no place: `[width]` float32.

        Zeros for the place and the time; in a model with `group_code_width`, between them the code
        of one group more than there are (SatMAE's decoder).
        """
        share = self._group_share(width, group_width)
        code = torch.zeros(width, device=device)
        if share:
            number = torch.full((1,), float(len(self.groups)), device=device)
            end = width - self._time_share(width, time_width)
            code[end - share : end] = sincos_1d(share, number)[0]
        return code

    def code_share(
        self, width: int, group_width: int | None = None, time_width: int | None = None
    ) -> int:
        """Return how many channels of a code `width` wide tell the group and the time."""
        return self._group_share(width, group_width) + self._time_share(width, time_width)

    def _time_share(self, width: int, time_width: int | None) -> int:
        if self.time_code_width is None:
            return 0
        if time_width is None:
            time_width = PARTS * max(round(self.time_code_width * width / self.width / PARTS), 1)
        return time_width

    def _group_share(self, width: int, group_width: int | None) -> int:
        if self.group_code_width is None:
            return 0
        if group_width is None:
            group_width = 2 * round(self.group_code_width * width / self.width / 2)
            group_width += (width - group_width) % 4
        return group_width

    def _step(self, group: str, inputs: Inputs) -> float:
        if self.positions != "metres":
            return 1.0
        steps = []
        for member in self.groups[group].members:
            if member.modality in inputs.pixels:
                own = member.bands[0].gsd_m
                metres = (inputs.gsd or {}).get(member.modality, own)
                steps.append(self.groups[group].token_m * metres / own / self.reference_m)
        if max(steps) - min(steps) > 1e-6 * max(steps):
            raise UsageError(f"{group}: the given gsd of its modalities disagree; scale all alike")
        return steps[0]

    def embed(
        self, inputs: Inputs, keep: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Make positioned tokens of all present groups.

        Args:
            inputs: the batch.
            keep: group to `[B, K]` tokens to keep; None keeps all.

        Returns:
            tokens `[B, sum K, D]` and validity `[B, sum K]` (None when no mask was given).
        """
        tokens, masks = [], []
        table = self.pos_embed
        codes = self.position_codes(inputs) if table is None else self._learned_codes(table, inputs)
        for name in self.grids(inputs.pixels):
            index = keep[name] if keep is not None else None
            made, mask = self.embedding(name)(inputs, index)
            code = codes[name].to(made.dtype)
            made = made + (codes_at(code, index) if index is not None else code)
            if name in self.group_embed:
                made = made + self.group_embed[name]
            if mask is None:
                mask = torch.ones(made.shape[:2], dtype=torch.bool, device=made.device)
            tokens.append(made)
            masks.append(mask)
        valid = torch.cat(masks, dim=1) if inputs.valid else None
        return torch.cat(tokens, dim=1), valid

    def _learned_codes(self, table: Tensor, inputs: Inputs) -> dict[str, Tensor]:
        times = time_codes(inputs, self.time_code_width or 0)
        result = {}
        for group, (rows, columns) in self.grids(inputs.pixels).items():
            code = resized_positions(
                table[0, 1:], rows // inputs.images, columns, self.position_resize
            )
            if self.group_code_width is not None:
                own = self.channel_embed[0, list(self.groups).index(group)]
                code = torch.cat([code, own.expand(code.shape[0], -1)], dim=1)
            result[group] = code if times is None else with_times(code, times)
        return result

    def prefix(self, inputs: Inputs) -> Tensor:
        """Return class token, registers and metadata tokens: `[B, prefix_count, D]`."""
        first: Tensor = self.cls_token
        if self.pos_embed is not None:
            own = [self.pos_embed[:, :1]]
            own += [self.channel_cls_embed] if self.group_code_width is not None else []
            own += [first.new_zeros(1, 1, self.time_code_width)] if self.time_code_width else []
            first = first + torch.cat(own, dim=-1)
        if self.reg_token is not None:
            first = torch.cat([first, self.reg_token], dim=1)
        first = first.expand(inputs.size, -1, -1)
        if self.metadata is None:
            return first
        values = {"lonlat": inputs.lonlat, "time": inputs.time}
        return torch.cat([first, self.metadata(values, inputs.size)], dim=1)

    def trunk(
        self, prefix: Tensor, tokens: Tensor, mask: Tensor | None = None, hidden: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run the blocks and the final norm.

        Args:
            prefix: `[B, P, D]`, see `prefix`.
            tokens: `[B, N, D]`.
            mask: `[B, N]` bool; False tokens are seen by no other token.
            hidden: also return the output of each block.

        Returns:
            `[B, P + N, D]`, and the hidden outputs (before the norm).
        """
        x = torch.cat([prefix.to(tokens.dtype), tokens], dim=1)
        attend = None
        if mask is not None:
            front = mask.new_ones(mask.shape[0], prefix.shape[1])
            attend = torch.cat([front, mask], dim=1)[:, None, None, :]
        outputs = []
        for block in self.blocks:
            x = block(x, attn_mask=attend)
            if hidden:
                outputs.append(x)
        return (x if self.pre_pool_norm else self.norm(x)), tuple(outputs)

    def block_modules(self) -> list[nn.Module]:
        """Return the transformer blocks."""
        return list(self.blocks)

    def pooled_of(self, inputs: Inputs, keep: Mapping[str, Tensor]) -> Tensor:
        """Return the pooled features of some tokens only, the others dropped before any work.

        Args:
            inputs: the batch.
            keep: group to `[B, K]` tokens to keep.

        Returns:
            `[B, D]`, as if the image had no other tokens.
        """
        tokens, mask = self.embed(inputs, keep)
        out, _ = self.trunk(self.prefix(inputs), tokens, mask)
        return self._pooled(out, mask)

    def _pooled(self, out: Tensor, mask: Tensor | None) -> Tensor:
        """Pool what the trunk gives: `[B, D]` float32."""
        front = self.prefix_count
        pooled = pool(out[:, front:], mask) if self.pooling == "mean" else out[:, 0].float()
        return self.norm(pooled) if self.pre_pool_norm else pooled

    def _encode(self, inputs: Inputs, hidden: bool) -> Features:
        tokens, mask = self.embed(inputs)
        out, outputs = self.trunk(self.prefix(inputs), tokens, mask, hidden)
        front = self.prefix_count
        return Features(
            tokens=out[:, front:],
            pooled=self._pooled(out, mask),
            grid=self.grids(inputs.pixels),
            hidden=tuple(x[:, front:] for x in outputs),
            mask=mask,
            images=inputs.images,
            cls=tuple(x[:, 0] for x in outputs),
        )


def _a_group(what: str, given: str | Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    if isinstance(given, str):
        return dict.fromkeys(names, given)
    if wrong := set(given) ^ set(names):
        raise UsageError(f"{what} must name exactly {list(names)}; check {sorted(wrong)}")
    return dict(given)


def _init_weights(module: nn.Module) -> None:
    """Xavier-uniform linear layers with zero bias, as MAE's reference initialisation."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
