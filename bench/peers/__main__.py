"""`python -m bench.peers NAME ...`: make the environments of peers."""

import sys

from bench.peers import PACKAGES, install

if __name__ == "__main__":
    for peer in sys.argv[1:] or PACKAGES:
        install(peer)
