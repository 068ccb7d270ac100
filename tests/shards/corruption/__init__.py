"""Random corruptions of small datasets; run in a process of its own by `test_corruption`.

    python -m tests.shards.corruption FOLDER CASES SEED damage|hostile|all

Two kinds. *Damage* leaves the checksums as they were: it must be detected by whatever reads those
bytes, or be harmless (everything read is identical). *Hostile* bytes have every checksum made to
fit, as an attacker would: the reading may succeed or not, but it ends in time, within the memory
that is allowed, without a crash, and with no exception but ours.
"""
