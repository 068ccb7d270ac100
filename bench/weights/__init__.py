"""The weights that eofm carries (`fm/weights`): what they are, and how all are made again.

`python -m bench.weights [NAME ...]` builds the datasets, pretrains, probes and writes the folders;
`python -m bench.weights.page` writes the table of docs/weights.md from their `probes.json`.
"""
