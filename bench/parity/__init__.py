"""Released weights in their authors' own code beside the models that `fm.foreign` makes of them.

`python -m bench.parity NAME --code FOLDER --weights FILE` runs both on the same numbers and prints
how far apart they are. `--code` is the authors' repository or package, as it was released: nothing
of it is in this one, and **it is run**, so look at it first.

Read in this order: `authors` (their code, what is compared), then a file a family.
"""
