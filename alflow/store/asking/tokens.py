"""A question cut into words, and the mark below the place where one is wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from alflow.errors import QueryError

__all__ = ["KEYWORDS", "MAX_LENGTH", "Token", "tokens_of", "wrong_at"]

KEYWORDS: Final = ("and", "or", "not", "in", "between", "like", "is", "null")
MAX_LENGTH: Final = 100_000
"""How many characters a question may have."""

_SPACE: Final = re.compile(r"\s+")
_WORD: Final = re.compile(r"[\w.:+%-]+")
_SYMBOL: Final = re.compile(r"<=|>=|!=|<>|==|[=<>(),]")
_QUOTED: Final = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"")
_SAME: Final = {"==": "=", "<>": "!="}
_SHOWN: Final = 100


@dataclass(frozen=True)
class Token:
    """One word of a question.

    Attributes:
        kind: A word, a text in quotes, a sign, or the end.
        text: What it says, without quotes.
        start: Where it begins.
        end: Where it ends.
    """

    kind: Literal["word", "quoted", "sign", "end"]
    text: str
    start: int
    end: int

    def is_word(self, *words: str) -> bool:
        """Whether it is one of some keywords, in capitals or not."""
        return self.kind == "word" and self.text.lower() in words

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of some signs."""
        return self.kind == "sign" and self.text in signs

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"'{self.text}'"


def tokens_of(text: str) -> list[Token]:
    """Cut a question into its words; the last one is its end.

    Raises:
        QueryError: A character means nothing here, or a quote is never closed.

    Examples:
        >>> [token.text for token in tokens_of("n_atoms>=9 and formula='C2H6O'")]
        ['n_atoms', '>=', '9', 'and', 'formula', '=', 'C2H6O', '']
    """
    if len(text) > MAX_LENGTH:
        raise QueryError(f"A question may have {MAX_LENGTH} characters; found {len(text)}.")
    found: list[Token] = []
    place = 0
    while place < len(text):
        if space := _SPACE.match(text, place):
            place = space.end()
            continue
        token = _token(text, place)
        found.append(token)
        place = token.end
    return [*found, Token("end", "", len(text), len(text))]


def wrong_at(text: str, start: int, end: int, message: str) -> QueryError:
    """An error with the place marked below the question.

    Examples:
        >>> print(wrong_at("n_atoms = abc", 10, 13, "Expected a number."))
        Expected a number.
          n_atoms = abc
                    ^^^
    """
    shown = "".join(character if character.isprintable() else " " for character in text)
    first = 0 if len(shown) <= _SHOWN else max(0, min(start - _SHOWN // 2, len(shown) - _SHOWN))
    line = shown[first : first + _SHOWN]
    before, after = ("… " if first else ""), (" …" if first + _SHOWN < len(shown) else "")
    width = max(1, min(end, first + _SHOWN) - start)
    marks = " " * (len(before) + start - first) + "^" * width
    return QueryError(f"{message}\n  {before}{line}{after}\n  {marks}")


def _token(text: str, place: int) -> Token:
    if word := _WORD.match(text, place):
        return Token("word", word.group(), place, word.end())
    if sign := _SYMBOL.match(text, place):
        return Token("sign", _SAME.get(sign.group(), sign.group()), place, sign.end())
    if text[place] in "'\"":
        quoted = _QUOTED.match(text, place)
        if quoted is None:
            raise wrong_at(text, place, place + 1, "This quote is never closed.")
        quote = text[place]
        return Token("quoted", quoted.group()[1:-1].replace(quote * 2, quote), place, quoted.end())
    instead = {"&": " Write 'and'.", "|": " Write 'or'.", "!": " Write 'not', or != for unequal.", "~": " Write 'not'."}
    hint = instead.get(text[place], " Texts with other than letters, digits and . : + - % belong in quotes.")
    raise wrong_at(text, place, place + 1, f"The character {text[place]!r} means nothing here.{hint}")
