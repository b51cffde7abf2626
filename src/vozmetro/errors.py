"""The error tree: a stable code, its fields, and (in the catalogues) a sentence with the fix.

Code raises `InputError("file_missing", path=...)`; `str()` of it is the English sentence from the
catalogue key `errors.file_missing`, and the command line prints it in the user's language.
"""

from __future__ import annotations

from typing import ClassVar

from vozmetro.i18n import t
from vozmetro.units import plain


class VozmetroError(Exception):
    """Base of every error that vozmetro raises on purpose.

    Attributes:
        code: Stable identifier, the key of the sentence under `errors.` in the catalogues.
        fields: Values of the sentence's placeholders, ready to print.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, code: str, **fields: object) -> None:
        super().__init__(code)
        self.code = code
        # Names from a model file may hold what a terminal would act on.
        self.fields = {name: plain(value) for name, value in fields.items()}

    def message(self, lang: str) -> str:
        """Returns the sentence in `lang` (`es` or `en`)."""
        return t(f"errors.{self.code}", lang, **self.fields)

    def __str__(self) -> str:
        return self.message("en")


class InputError(VozmetroError):
    """The user's words or files cannot be used as they are."""


class ModelError(VozmetroError):
    """A model file is missing, damaged, unsafe, or does not fit this machine."""


class MissingExtraError(VozmetroError):
    """An optional part is not installed; the sentence gives the install command."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__("missing_extra", extra=extra, package=package)


class MeasurementError(VozmetroError):
    """The model failed while it was being loaded or measured."""


class OutputError(VozmetroError):
    """Results cannot be written where they were asked for."""


class BusyError(VozmetroError):
    """Too many wait already: try again in a moment."""

    exit_code = 1


class ReplyError(VozmetroError):
    """Whoever answers cannot, or not in time."""

    exit_code = 1
