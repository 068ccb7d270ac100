"""What ranks of `tests.ranks` need, imported once by the server that forks them.

An engine imports the parts of DeepSpeed when it is made; two seconds of it are torch's compiler,
which one of the optimisers asks for. Nothing here starts a thread, for a fork would lose it.
"""

import gc

from pretrain.ranks.processes import prepare_environment, quiet_stderr

prepare_environment()
with quiet_stderr():
    import deepspeed
    import deepspeed.module_inject.auto_ep_layer
    import deepspeed.ops.op_builder.all_ops
    import deepspeed.runtime.superoffload.superoffload_stage3
    import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    import torch.utils.cpp_extension  # noqa: F401

    import pretrain.trainer  # noqa: F401
    import shards.reading.reader  # noqa: F401

gc.freeze()  # so that a rank neither walks through what it shares nor copies it
