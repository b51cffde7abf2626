"""Random generators that depend on names and a seed alone, never on the order of the work."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, *names: str) -> np.random.Generator:
    """Returns the generator that belongs to a seed and names.

    The same words give the same draws in any order, process and machine (with one version of
    numpy: it may change what a distribution draws, never PCG64's bits).

    Args:
        seed: What the user chose.
        *names: What the draws are for, e.g. the kind of noise and an utterance's id.
    """
    # Lengths keep ("a", "bc") apart from ("ab", "c").
    text = "".join(f"{len(name)}:{name}," for name in (str(seed), *names))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
