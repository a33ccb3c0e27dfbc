"""Random expressions, and what exact rational arithmetic over Python's own parser makes of them."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

# Half of the last decimal that a product or a quotient is rounded to, and half of the last that is shown.
ROUNDED = Fraction(1, 2 * 10**40)
SHOWN = Fraction(1, 2 * 10**30)
LARGEST = 10**39

SPACES = st.sampled_from(["", "", "", " ", "  ", "\t", "\n"])
NUMBERS = st.from_regex(r"[0-9]{1,4}|[0-9]{1,3}\.[0-9]{0,3}|\.[0-9]{1,3}", fullmatch=True)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operation = st.sampled_from("+-*/")
    return (
        st.tuples(inner, SPACES, operation, SPACES, inner).map("".join)
        | st.tuples(st.just("("), SPACES, inner, SPACES, st.just(")")).map("".join)
        | st.tuples(st.sampled_from(["-", "+", "-("]), SPACES, inner).map(
            lambda words: "".join(words) + ")" * ("(" in words[0])
        )
    )


EXPRESSIONS = st.recursive(NUMBERS, _joined, max_leaves=9)


class Unknowable(Exception):  # noqa: N818
    """The arithmetic's roundings decide what comes, so nothing can be asked of it."""


@dataclass(frozen=True)
class Exact:
    """A value, how far from it a result may be, and the operations that lead to it."""

    value: Fraction
    error: Fraction = Fraction(0)
    operations: int = 0


def exact(expression: str) -> Exact:
    """What the expression is.

    Raises:
        ZeroDivisionError: exactly that.
        Unknowable: a divisor may be zero or not, or a number is too large for the services.
    """
    plain = re.sub(r"(?<![0-9.])0+(?=[0-9])", "", "".join(expression.split()))
    return _value(ast.parse(plain, mode="eval").body, plain)


def _value(node: ast.expr, text: str) -> Exact:
    match node:
        case ast.Constant():
            return Exact(Fraction(Decimal(ast.get_source_segment(text, node) or "")))
        case ast.UnaryOp(operand=ast.Constant() as operand) if text[node.col_offset + 1] != "(":
            return Exact(_value(operand, text).value * (-1 if isinstance(node.op, ast.USub) else 1))
        case ast.UnaryOp(operand=operand):
            inner = _value(operand, text)
            if isinstance(node.op, ast.UAdd):
                return inner
            return Exact(-inner.value, inner.error, inner.operations + 1)
        case ast.BinOp(left=left, right=right):
            return _operated(node.op, _value(left, text), _value(right, text))
    raise AssertionError(ast.dump(node))


def _operated(operator: ast.operator, a: Exact, b: Exact) -> Exact:
    if isinstance(operator, ast.Add | ast.Sub):
        value = a.value + b.value if isinstance(operator, ast.Add) else a.value - b.value
        error = a.error + b.error
    elif isinstance(operator, ast.Mult):
        value = a.value * b.value
        error = abs(a.value) * b.error + abs(b.value) * a.error + a.error * b.error
    else:
        nearest = abs(b.value) - b.error
        if nearest <= 0 < b.error:
            raise Unknowable
        value = a.value / b.value
        error = (abs(a.value) * b.error + abs(b.value) * a.error) / (abs(b.value) * nearest)
    if abs(value) + error >= LARGEST:
        raise Unknowable
    if error or (value * 10**40).denominator != 1:
        error += ROUNDED
    return Exact(value, error, a.operations + b.operations + 1)


def agrees(shown: str, wanted: Exact) -> bool:
    return abs(Fraction(Decimal(shown)) - wanted.value) <= wanted.error + SHOWN
