"""`python -m pretrain`, `torchrun -m pretrain` and `deepspeed --module pretrain`."""

import sys

from fm.cli import main

sys.exit(main(["pretrain", *sys.argv[1:]]))
