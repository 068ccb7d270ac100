"""Drives FAISS's exact search for the neighbours of `bench/probes.py`.

Arguments: a file of two arrays (train and test, rows of length 1), number of neighbours, counts.
"""

import json
import sys
import time

import faiss
import numpy as np


def main() -> None:
    """Search on demand."""
    path, k, counted, warm = sys.argv[1], *map(int, sys.argv[2:])
    with np.load(path) as stored:
        train, test = stored["train"], stored["test"]
    index = faiss.IndexFlatIP(train.shape[1])
    index.add(train)
    for _ in range(warm):
        index.search(test, k)
    told = {"faiss": faiss.__version__, "k": k, "threads": faiss.omp_get_max_threads()}
    print(json.dumps({**told, "index": "IndexFlatIP"}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(counted):
            index.search(test, k)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main()
