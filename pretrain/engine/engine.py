"""One optimiser step under DeepSpeed, whatever the objective, the ranks and the micro-batches."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fm.console import note
from fm.errors import FMError, UsageError
from fm.hardware import native_bfloat16
from pretrain.after_step import AfterStep
from pretrain.engine.batches import MicroBatch
from pretrain.engine.blocks import compile_blocks, recompute
from pretrain.engine.forward import Forward
from pretrain.engine.fragment import read_fragment
from pretrain.engine.gradients import Gradients
from pretrain.engine.loading import load_untrained, own_hyperparameters
from pretrain.engine.optimizers import Rates, build_optimizer
from pretrain.engine.recorder import UNIVERSAL, Recorder
from pretrain.engine.teachers import Teachers
from pretrain.engine.weights import weights_of
from pretrain.engine.zero3 import linear_inside, outside, own_units
from pretrain.objective import Objective
from pretrain.ranks import collective
from pretrain.ranks.processes import quiet_stderr
from pretrain.settings.engine import EngineConfig
from pretrain.settings.optimizer import OptimizerConfig


@dataclass
class Step:
    """What one optimiser step did, over the whole global batch.

    Attributes:
        loss: sum of losses over sum of weights.
        metrics: the objective's, divided the same way.
        weight: sum of weights.
        grad_norm: before clipping.
        own: loss of each of this rank's micro-batches, not divided.
        taken: the weights were changed.
    """

    loss: float
    metrics: dict[str, float]
    weight: float
    grad_norm: float
    own: list[Tensor] = field(default_factory=list)
    taken: bool = True


def check_passes(objective: Objective, micro_batch: int, accumulate: int, world: int) -> None:
    """Refuse to cut a batch in a way that an objective does not take.

    Args:
        objective: of a run.
        micro_batch: samples of a forward pass on one rank.
        accumulate: forward passes in one step.
        world: number of ranks.

    Raises:
        UsageError: it compares all samples of a batch, and a pass has not all, or there is but
            one; or it asks for what one process cannot do.
    """
    compares = objective.whole_batch and not objective.takes_one
    if compares and micro_batch * accumulate * world == 1:
        raise UsageError(
            "data.batch_size=1: this objective compares the samples of a batch; give 2 or more"
        )
    if objective.whole_batch and accumulate > 1:
        raise UsageError(
            "engine.micro_batch cuts the batch, and this objective compares all samples of a "
            "batch with each other; leave engine.micro_batch out, or start more ranks"
        )
    if objective.between_ranks and world == 1:
        raise UsageError(
            f"{objective.between_ranks} moves samples between ranks, and there is one; start "
            f"several with torchrun or deepspeed, or leave it out"
        )


class Engine:
    """DeepSpeed around an objective.

    Args:
        objective: on any device; moved to `device`.
        optimizer: its kind and settings.
        config: precision, DeepSpeed settings.
        micro_batch: samples a forward pass takes on this rank.
        accumulate: forward passes in one step.
        device: of this process.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: OptimizerConfig,
        config: EngineConfig,
        *,
        micro_batch: int,
        accumulate: int,
        device: torch.device,
    ) -> None:
        import deepspeed

        self.objective, self.device, self.accumulate = objective, device, accumulate
        check_passes(objective, micro_batch, accumulate, collective.world_size())
        settings: dict[str, Any] = {
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
            **read_fragment(config),
            "train_batch_size": micro_batch * accumulate * collective.world_size(),
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": accumulate,
            "gradient_clipping": optimizer.clip,
            "bf16": {"enabled": config.precision == "pure-bf16"},
        }
        emulated = config.precision != "fp32" and not native_bfloat16(device)
        if emulated and collective.rank() == 0:
            note(
                f"engine.precision={config.precision} is emulated on this processor and many times "
                "slower than engine.precision=fp32"
            )
        self.zero_stage = int(settings.get("zero_optimization", {}).get("stage", 0))
        module = Forward(objective.to(device), config.precision)
        if config.compile:
            compile_blocks(objective.compiled_modules())
        if config.activation_checkpointing:
            recompute(objective.block_modules())
        self._teachers = Teachers(objective.momentum_pairs())
        self._memories = [part for part in objective.modules() if isinstance(part, AfterStep)]
        client = build_optimizer(module, objective.backbone, optimizer, self.zero_stage)
        self._rates = Rates(client.param_groups)
        # DeepSpeed calls collectives by names that torch is about to retire
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
        with quiet_stderr(), linear_inside():
            self.engine, *_ = deepspeed.initialize(
                model=module, optimizer=client, config=settings, dist_init_required=False
            )
            self._linear = torch.nn.functional.linear
        if self.zero_stage > 0:
            rest = outside(module, objective.block_modules())
            module.touched = [parameter for parameter in rest if parameter.requires_grad]
        if self.zero_stage == 3:
            own_units(module, objective.block_modules())
        self._recorder = Recorder(self.engine)
        if self.zero_stage == 0 and collective.world_size() == 1:
            # one process has nothing to reduce; DeepSpeed would still copy every gradient twice
            self.engine.enable_backward_allreduce = False

    def step(
        self,
        batches: Sequence[MicroBatch],
        learning_rate: float,
        stop: bool,
        judge: Callable[[Step], bool] | None = None,
        weight_decay: float | None = None,
    ) -> tuple[Step, bool]:
        """Take one optimiser step over the global batch.

        Args:
            batches: this rank's micro-batches.
            learning_rate: of this step.
            stop: this process was asked to stop.
            judge: says before the weights are changed whether they should be; called with the
                same numbers on every rank, it must answer the same. None takes every step.
            weight_decay: of this step; None leaves it as it is.

        Returns:
            what the step did, and whether any process was asked to stop.

        Raises:
            FMError: no sample of the batch could be read.
        """
        own = sum(float(self.objective.weight(batch)) for batch in batches)
        shared = torch.tensor([own, float(stop)], dtype=torch.float64, device=self.device)
        total, stops = collective.all_reduce_sum(shared).tolist()
        if total <= 0:
            raise FMError(
                "no sample of the global batch counts: none could be read (run fm shards verify), "
                "or none has what the objective asks for, such as its place or labels"
            )
        self._rates.set(self.engine.optimizer.param_groups, learning_rate, weight_decay)
        # DeepSpeed averages gradients over ranks and micro-batches; this makes it a weighted mean
        factor = collective.world_size() * self.accumulate / total
        for memory in self._memories:
            memory.drop()  # of pictures, and of steps that were not taken
        sums: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        for batch in batches:
            with linear_inside(self._linear):
                loss_sum, _, metrics = self.engine(batch)
                self.engine.backward(loss_sum * factor)
            losses.append(loss_sum.detach())
            for name, value in {"loss": loss_sum.detach(), **metrics}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            if batch is not batches[-1]:
                self.engine.step()
        self._fill_gradients()
        gradients = Gradients(self.engine, self.zero_stage)
        # through the same sum as the losses: every rank judges by the same bits
        norm = gradients.norm().double() / collective.world_size()
        numbers = torch.stack([*(value.double() for value in sums.values()), norm])
        *reduced, norm_value = collective.all_reduce_sum(numbers).tolist()
        values = {name: value / total for name, value in zip(sums, reduced, strict=True)}
        result = Step(
            loss=values.pop("loss"),
            metrics=values,
            weight=total,
            grad_norm=norm_value,
            own=losses,
        )
        result.taken = judge is None or judge(result)
        if result.taken:
            gradients.take()
            self._teachers.update(batches[0].clock)
            for memory in self._memories:
                memory.take(collective.gather_rows)
        else:
            gradients.drop()
        return result, stops > 0

    def _fill_gradients(self) -> None:
        """Give parameters that no sample of the step used the gradient zero.

        A step of a mixture leaves out the modalities of the other parts. With several ranks and
        under ZeRO DeepSpeed sums zeros for them; AdamW of one process would skip them instead.
        """
        if self.zero_stage == 0:
            for parameter in self.engine.parameters():
                if parameter.requires_grad and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

    def save(self, folder: str, tag: str) -> None:
        """Write DeepSpeed's checkpoint of this run; call on every rank."""
        self.record(folder, tag, aside=False)()

    def record(self, folder: str, tag: str, aside: bool) -> Callable[[], None]:
        """Take DeepSpeed's checkpoint of this run as it is now; call on every rank.

        Args:
            folder: where it goes.
            tag: the folder in that.
            aside: steps may be taken before it is written.

        Returns:
            writes this rank's files; calls nothing of other ranks, so that a thread may do it.
        """
        return self._recorder.record(folder, tag, UNIVERSAL, aside=aside)

    def load(self, folder: str, tag: str, *, universal: bool = False) -> None:
        """Load what `save` wrote; call on every rank.

        Args:
            folder: where it is.
            tag: the folder in that.
            universal: it was converted (`pretrain.runs.universal`); under ZeRO > 0 anything else
                must be loaded by as many ranks as wrote it, under the same stage.
        """
        settings = self.engine._config
        settings.load_universal_checkpoint = universal
        try:
            with own_hyperparameters(self.engine.optimizer):
                path, _ = self.engine.load_checkpoint(folder, tag=tag)
        except RuntimeError as error:
            first, *rest = str(error).splitlines()
            if "loading state_dict" not in first:
                raise
            why = " ".join(rest[0].split())[:160] if rest else first
            raise FMError(
                f"{folder}: its weights are not those of this run's model: {why}; go on with the "
                f"config and the version that began the run (config.yaml and env.json beside it)"
            ) from None
        finally:
            settings.load_universal_checkpoint = False
        if path is None:
            raise FMError(f"{folder}/{tag}: not a checkpoint of this engine")
        if universal:
            load_untrained(self.engine.module, Path(folder, tag), self.zero_stage)

    def state_of(self, module: nn.Module) -> dict[str, Tensor]:
        """Return a module's weights on the CPU; call on every rank."""
        weights = weights_of(module)
        return dict(weights.values(list(weights.layout)))

    def panels(self, batch: MicroBatch) -> Any:
        """Return the objective's pictures of a batch; call on every rank."""
        self.engine.eval()
        with torch.no_grad():
            self.engine(batch, draw=True)
        self.engine.train()
        return self.engine.module.pictures
