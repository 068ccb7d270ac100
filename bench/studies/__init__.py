"""Studies: experiments on real data whose result is a table of scores with intervals.

Settings are in the study's file and are frozen before its test score is looked at; what was tried
on validation data before is told in docs/studies.md. `python -m bench.studies NAME` runs one and
writes `bench/results/studies/NAME.json`.
"""
