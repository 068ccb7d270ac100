"""What ranks of `tests.ranks` need, imported once by the server that forks them."""

from pretrain.ranks.processes import prepare_environment, quiet_stderr

prepare_environment()
with quiet_stderr():
    import deepspeed  # noqa: F401

    import pretrain.trainer  # noqa: F401
