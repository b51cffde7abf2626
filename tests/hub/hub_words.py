"""What the tests of fetching share: a repository's name, and how refusals are looked at."""

from __future__ import annotations

import hashlib

import pytest

from vozmetro.errors import VozmetroError
from vozmetro.models.fetch import fetch

REPO = "voces/prueba"
SOURCE = f"hub:{REPO}"
BIG = bytes(range(256)) * 1500  # 384 000 bytes, more than one piece


def refusal(kind: type[VozmetroError], *args, **kwargs) -> VozmetroError:
    with pytest.raises(kind) as caught:
        fetch(*args, **kwargs)
    for lang in ("es", "en"):
        assert "{" not in caught.value.message(lang)
    return caught.value


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
