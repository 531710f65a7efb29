"""What a password must not be made of, beside what Django's own validators refuse."""

import re

from django.core.exceptions import ValidationError

from tenants.planes import current

LETTERS_OF_A_WORD = 4  # shorter ones stand in too much that is no name


class ContextWordsValidator:
    """
    Refuses what is a name of this place and little else: the ``words``, and those of the bound tenant's slug and name.
    """

    def __init__(self, words: list[str], beside: int = 8):
        self.words = words
        self.beside = beside

    def validate(self, password, user=None):
        rest = password.casefold()
        for word in sorted({*self.words, *_tenants_words()}, key=len, reverse=True):
            rest = rest.replace(word, "")
        if rest != password.casefold() and len(rest) < self.beside:
            raise ValidationError(self.get_help_text(), code="password_of_this_place")

    def get_help_text(self):
        return f"Beside names of this service and of your organisation it needs {self.beside} characters."


def _tenants_words() -> set[str]:
    bound = current()
    if bound is None or bound.record is None:
        return set()
    snapshot = bound.record.snapshot
    words = re.findall(r"\w+", f"{snapshot.slug} {snapshot.name}".casefold())
    return {word for word in words if len(word) >= LETTERS_OF_A_WORD}
