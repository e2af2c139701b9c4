"""The formula of a multi grader: arithmetic of its graders' scores. Source: OpenAI's guide to graders."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}


def parsed(formula: str) -> ast.expr:
    """Return the tree of a formula; `^` is a power. Raises ValueError where it is none."""
    try:
        return ast.parse(formula.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{formula[:80]!r} is not a formula") from None


def names_in(formula: str) -> set[str]:
    """Return the graders that a formula names. Raises ValueError for what is not arithmetic."""
    tree = parsed(formula)
    nodes = list(ast.walk(tree))
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    names = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in functions}
    with suppress(ArithmeticError):  # of these numbers only
        calculate(tree, dict.fromkeys(names, 0.5))
    return names


def output(formula: str, scores: Mapping[str, float]) -> float:
    """Return the value of a formula. Raises ArithmeticError or ValueError where it has none."""
    value = float(calculate(parsed(formula), scores))
    if not math.isfinite(value):
        raise ValueError("the formula gives no finite number")
    return value


def calculate(node: ast.expr, scores: Mapping[str, float]) -> float:
    """Return the value of a part of a formula."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        return scores[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return result_of(OPERATORS[type(node.op)], [calculate(node.left, scores), calculate(node.right, scores)])
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return float(OPERATORS[type(node.op)](calculate(node.operand, scores)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id in FUNCTIONS:
            values = [calculate(one, scores) for one in node.args]
            if not values or (len(values) > 1 and node.func.id not in ("min", "max")):
                raise ValueError(f"{node.func.id} has {len(values)} values")
            if len(values) == 1 and node.func.id in ("min", "max"):
                return values[0]
            return result_of(FUNCTIONS[node.func.id], values)
        raise ValueError(f"{node.func.id} is not a function; use {', '.join(FUNCTIONS)}")
    raise ValueError(f"{ast.unparse(node)[:80]!r} is not arithmetic of the graders' scores")


def result_of(function: Callable[..., Any], values: list[float]) -> float:
    """Return a function's result. Raises ArithmeticError where it has none, such as log(0)."""
    try:
        return float(function(*values))
    except ValueError as error:
        raise ArithmeticError(str(error)) from None
