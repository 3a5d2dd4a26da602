"""Tools that several domains of tau2-bench have."""

from __future__ import annotations

import ast
import operator

from agentft.simulate.tables import Tables
from agentft.simulate.toolbox import Refused, Tool, tool


def add_transfer(box: dict[str, Tool]) -> None:
    tool(
        box,
        "Hand the user over to a human agent: only where the user asks for one, or policy and tools leave no other way.",
        summary="What the user wants, and what was done.",
    )(transfer_to_human_agents)


def add_general(box: dict[str, Tool]) -> None:
    """Calculator and transfer."""
    tool(box, "Compute an expression of numbers, + - * / and parentheses.", expression="The expression, such as '2 + 2'.")(calculate)
    add_transfer(box)


def transfer_to_human_agents(db: Tables, summary: str) -> str:
    return "Transfer successful"


def calculate(db: Tables, expression: str) -> str:
    if not all(char in "0123456789+-*/(). " for char in expression):
        raise Refused("Invalid characters in expression")
    try:
        return str(round(float(_value(ast.parse(expression.strip(), mode="eval").body)), 2))
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError) as error:
        raise Refused(str(error) or type(error).__name__) from None


_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))  # type: ignore[operator]
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return float(_OPERATORS[type(node.op)](_value(node.operand)))  # type: ignore[operator]
    raise ValueError("not an expression of numbers, + - * / and parentheses")
