"""From text to a question, by recursive descent.

::

    question   = all ("or" all)*
    all        = single ("and" single)*
    single     = "not" single | "(" question ")" | comparison
    comparison = column ("=" | "!=" | "<" | "<=" | ">" | ">=") (value | column)
               | column ["not"] "in" "(" value ("," value)* ")"
               | column ["not"] "between" value "and" value
               | column ["not"] "like" value
               | column "is" ["not"] "null"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from alflow.errors import QueryError
from alflow.store.asking.columns import Described, Kind, described
from alflow.store.asking.expressions import (
    MAX_DEPTH,
    MAX_TERMS,
    Among,
    And,
    Between,
    Comparison,
    Expression,
    IsNull,
    Like,
    Not,
    Or,
)
from alflow.store.asking.tokens import KEYWORDS, Token, tokens_of, wrong_at
from alflow.store.asking.values import MAX_VALUES, check_comparable, check_pattern, value_of_word

__all__ = ["parse_question"]

_T = TypeVar("_T")
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
_EXAMPLE = "such as: formula = C2H6O and disagreement > 0.3"


def parse_question(text: str) -> Expression | None:
    """Read a question.

    Args:
        text: Comparisons of columns, joined by ``and``, ``or``, ``not`` and parentheses.

    Returns:
        The question; None for an empty text, which asks for everything.

    Raises:
        QueryError: It cannot be understood; the message says what was expected, and marks the place.

    Examples:
        >>> parse_question("generation >= 2 and walker is null").parts[1]
        IsNull(column=Described(name='walker', ...))
        >>> parse_question("disagrement > 0.3")
        Traceback (most recent call last):
        ...
        alflow.errors.QueryError: There is no column 'disagrement'. Did you mean 'disagreement'?
          disagrement > 0.3
          ^^^^^^^^^^^
    """
    parser = _Parser(text)
    if parser.at_end():
        return None
    found = parser.question(0)
    if not parser.at_end():
        hint = " Decimals are written with a point." if parser.here.is_sign(",") else ""
        raise parser.wrong(f"Expected and, or, or the end; found {parser.here}.{hint}")
    return found


class _Parser:
    """The words of a question, and how far they have been read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tokens = tokens_of(text)
        self._place = 0
        self._terms = 0

    @property
    def here(self) -> Token:
        """The next word."""
        return self._tokens[self._place]

    def at_end(self) -> bool:
        """Whether every word has been read."""
        return self.here.kind == "end"

    def wrong(self, message: str, token: Token | None = None) -> QueryError:
        """An error at a word, by default the next one."""
        at = token or self.here
        return wrong_at(self.text, at.start, at.end, message)

    def question(self, depth: int) -> Expression:
        """Parts joined by or."""
        parts = [self._all(depth)]
        while self._takes("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all(self, depth: int) -> Expression:
        parts = [self._single(depth)]
        while self._takes("and"):
            parts.append(self._single(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _single(self, depth: int) -> Expression:
        if 2 * depth + 2 > MAX_DEPTH - 2:  # at each level an or of ands
            raise self.wrong(f"The question is nested more than {depth} deep; write it flatter.")
        if self._takes("not"):
            return Not(self._single(depth + 1))
        if self.here.is_sign("("):
            opening = self._next()
            inside = self.question(depth + 1)
            if not self.here.is_sign(")"):
                what = "is never closed" if self.here.kind == "end" else f"is not closed before {self.here}"
                raise self.wrong(f"This parenthesis {what}.", opening)
            self._next()
            return inside
        return self._comparison()

    def _comparison(self) -> Expression:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise self.wrong(f"The question has more than {MAX_TERMS} comparisons; use 'in (…)' for lists of values.")
        column = self._column()
        token = self._next()
        if token.is_sign(*_COMPARISONS):
            self._check(token, lambda: check_comparable(column, token.text))
            return Comparison(column, token.text, self._value_or_column(column, token.text))  # type: ignore[arg-type]
        if token.is_word("is"):
            negated = self._takes("not")
            if not self._takes("null"):
                raise self.wrong(f"Expected null or not null after 'is'; found {self.here}. For values write =.")
            return Not(IsNull(column)) if negated else IsNull(column)
        negated = token.is_word("not")
        found = self._special(column, self._next() if negated else token)
        return Not(found) if negated else found

    def _special(self, column: Described, token: Token) -> Expression:
        if token.is_word("in", "between", "like"):
            self._check(token, lambda: check_comparable(column, token.text.lower()))
        if token.is_word("in"):
            return Among(column, tuple(self._list(column)))
        if token.is_word("between"):
            low = self._value(column)
            if not self._takes("and"):
                raise self.wrong(f"Expected 'and' and the upper end of 'between'; found {self.here}.")
            return Between(column, low, self._value(column))
        if token.is_word("like"):
            pattern = self._word_of_value("a pattern such as 'C2%'")
            return Like(column, self._check(pattern, lambda: check_pattern(pattern.text)))
        raise self.wrong(
            f"Expected one of {' '.join(_COMPARISONS)}, in, between, like, is null after {column.name}; found {token}.",
            token,
        )

    def _column(self) -> Described:
        token = self.here
        if token.kind != "word" or token.is_word(*KEYWORDS):
            raise self.wrong(f"Expected the name of a column; found {token}, {_EXAMPLE}.")
        if token.text[0] in "0123456789.+-":
            raise self.wrong(
                f"Expected the name of a column, and its value behind the sign; found {token}, {_EXAMPLE}."
            )
        self._next()
        return self._check(token, lambda: described(token.text))

    def _list(self, column: Described) -> list[Any]:
        if not self.here.is_sign("("):
            raise self.wrong(f"Expected values in parentheses after 'in'; found {self.here}.")
        opening = self._next()
        values = [self._value(column)]
        while self.here.is_sign(","):
            self._next()
            values.append(self._value(column))
            if len(values) > MAX_VALUES:
                raise self.wrong(f"A list may have {MAX_VALUES} values.", opening)
        if not self.here.is_sign(")"):
            raise self.wrong(f"Expected , or ) in the list of values; found {self.here}.")
        self._next()
        return values

    def _value_or_column(self, column: Described, operator: str) -> Any:
        token = self.here
        if column.kind in (Kind.WHOLE, Kind.NUMBER) and token.kind == "word" and token.text[0].isalpha():
            try:
                other = described(token.text)
            except QueryError:
                return self._value(column)
            self._next()
            self._check(token, lambda: check_comparable(column, operator, other))
            return other
        return self._value(column)

    def _value(self, column: Described) -> Any:
        token = self._word_of_value(f"a value of {column.name}")
        return self._check(token, lambda: value_of_word(column, token.text, token.kind == "quoted"))

    def _word_of_value(self, expected: str) -> Token:
        token = self.here
        if token.is_word("null"):
            raise self.wrong("Nothing equals null; write 'is null' or 'is not null'.")
        if token.kind not in ("word", "quoted") or token.is_word(*KEYWORDS):
            quote = " Put it in quotes if it is a text." if token.is_word(*KEYWORDS) else ""
            raise self.wrong(f"Expected {expected}; found {token}.{quote}")
        return self._next()

    def _next(self) -> Token:
        token = self.here
        if token.kind != "end":
            self._place += 1
        return token

    def _takes(self, word: str) -> bool:
        if not self.here.is_word(word):
            return False
        self._place += 1
        return True

    def _check(self, token: Token, checked: Callable[[], _T]) -> _T:
        try:
            return checked()
        except QueryError as error:
            raise self.wrong(str(error), token) from None
