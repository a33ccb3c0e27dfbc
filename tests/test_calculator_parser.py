"""The calculator's arithmetic and grammar, without HTTP."""

from __future__ import annotations

import ast
import asyncio
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from provision.calculator.service import DEPTH, DIGITS, SHOWN, RefusedError, number, operate, plain, postfix
from tests.calculator_expressions import EXPRESSIONS, Unknowable, agrees, exact
from tests.calculator_world import IMPLEMENTATIONS

NAMES = {"+": "sum", "-": "sub", "*": "mul", "/": "div"}


def micro(name: str, body: str) -> str:
    return asyncio.run(operate(name, body))[1].removesuffix("\n")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("(5+6)*2", "5 6 + 2 *"),
        ("5+6*2", "5 6 2 * +"),
        ("8-3-2", "8 3 - 2 -"),
        ("8/4/2*3", "8 4 / 2 / 3 *"),
        (" 1 +\t2\r\n", "1 2 +"),
        ("-3", "-3"),
        ("+3", "3"),
        ("- 3 * 2", "-3 2 *"),
        ("2--3", "2 -3 -"),
        ("2*-3", "2 -3 *"),
        ("-(2+3)", "2 3 + ~"),
        ("--3", "-3 ~"),
        ("+(2)", "2"),
        ("((((1))))", "1"),
        ("007.50", "7.5"),
        ("-0", "0"),
        ("1./.5", "1 0.5 /"),
    ],
)
def test_an_expression_becomes_its_operations_in_order(text: str, steps: str) -> None:
    assert postfix(text) == steps.split()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "a number or '(' expected at the end"),
        ("1+", "a number or '(' expected at the end"),
        ("1 2", "an operation or the end expected at character 3, not '2'"),
        ("1.2.3", "an operation or the end expected at character 4, not '.3'"),
        ("2(3)", "an operation or the end expected at character 2, not '('"),
        ("(1", "an operation or ')' expected at the end"),
        ("1)", "an operation or the end expected at character 2, not ')'"),
        ("()", "a number or '(' expected at character 2, not ')'"),
        ("2**3", "a number or '(' expected at character 3, not '*'"),
        ("1e5", "an operation or the end expected at character 2, not 'e'"),
        ("nan", "a number or '(' expected at character 1, not 'n'"),
        ("1,5", "an operation or the end expected at character 2, not ','"),
        ("\u0661+1", "a number or '(' expected at character 1, not '\\u0661'"),
        ("__import__('os')", "a number or '(' expected at character 1, not '_'"),
        (".", "a number or '(' expected at character 1, not '.'"),
        ("(" * (DEPTH + 1) + "1" + ")" * (DEPTH + 1), f"nested deeper than {DEPTH}"),
        ("-" * 4000 + "1", f"nested deeper than {DEPTH}"),
        (
            "1" * (DIGITS + 1),
            f"{'1' * (DIGITS + 1)!r} has more than {DIGITS} digits before or after the point",
        ),
    ],
)
def test_what_is_no_expression_is_refused_with_the_place(text: str, reason: str) -> None:
    with pytest.raises(RefusedError) as refused:
        postfix(text)
    assert refused.value.args == (400, reason)


def test_as_deep_as_allowed() -> None:
    assert postfix("(" * DEPTH + "1" + ")" * DEPTH) == ["1"]


@given(EXPRESSIONS)
@settings(max_examples=1000, deadline=None, database=None)
def test_chains_of_operations_agree_with_exact_rational_arithmetic(expression: str) -> None:
    def calculated() -> str:
        results: list[str] = []
        for step in postfix(expression):
            if step not in "+-*/~":
                results.append(step)
            else:
                b = results.pop()
                results.append(micro(NAMES.get(step, "sub"), f"{'0' if step == '~' else results.pop()} {b}"))
        return plain(Decimal(results.pop()), SHOWN)

    try:
        wanted = exact(expression)
    except ZeroDivisionError:
        with pytest.raises(RefusedError, match="division by zero"):
            calculated()
    except Unknowable:
        reject()
    else:
        assert agrees(calculated(), wanted)


WIDE = st.from_regex(
    rf"-?(?:[0-9]{{1,{DIGITS}}}(?:\.[0-9]{{0,{DIGITS}}})?|\.[0-9]{{1,{DIGITS}}})", fullmatch=True
)


@given(st.sampled_from(sorted(NAMES.values())), WIDE, WIDE)
@settings(max_examples=1000, deadline=None, database=None)
def test_an_operation_is_the_exact_one_rounded_to_forty_decimals_or_refused(
    name: str, a: str, b: str
) -> None:
    left, right = Fraction(Decimal(a)), Fraction(Decimal(b))
    if name == "div" and not right:
        with pytest.raises(RefusedError, match="division by zero"):
            micro(name, f"{a} {b}")
        return
    wanted = {"sum": left + right, "sub": left - right, "mul": left * right}.get(name)
    wanted = left / right if wanted is None else wanted
    # Just below the limit it depends on the rounding.
    if abs(wanted) >= 10**DIGITS:
        with pytest.raises(RefusedError, match="more than 40 digits"):
            micro(name, f"{a} {b}")
    elif abs(wanted) < 10**DIGITS - 1:
        text = micro(name, f"{a} {b}")
        assert abs(Fraction(Decimal(text)) - wanted) <= Fraction(1, 2 * 10**DIGITS)
        assert plain(number(text)) == text
        assert "e" not in text.lower()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("3.0", "3"),
        ("100", "100"),
        ("-0.0", "0"),
        ("-1e-41", "0"),
        ("3.750", "3.75"),
        ("1e39", "1" + "0" * 39),
    ],
)
def test_numbers_print_plainly(value: str, text: str) -> None:
    assert plain(Decimal(value)) == text


def test_the_one_file_is_python_3_9_and_its_library() -> None:
    source = Path(IMPLEMENTATIONS["python"][1]).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    modules = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert modules <= set(sys.stdlib_module_names)
