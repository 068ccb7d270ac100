"""A safe filter expression over the index: parsed with `ast`, checked, turned into pyarrow.

Grammar: columns of the index, `month` and `year` (from `time`, UTC), constants and lists of them;
`== != < <= > >=`, `in`, `not in`, `is None`, `is not None`, `and`, `or`, `not`;
`has('MEMBER')`; `'river' in caption` for a part of a text. Classes may be named:
`crop == 'wheat'`. Nothing is ever evaluated as Python.

A comparison with an unknown (null) value is neither true nor false, and only rows for which the
whole expression is true are kept, so `split != 'test'` drops rows without a split.
"""

import ast
import datetime
from collections.abc import Mapping
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from fm.errors import UsageError, suggest
from shards.format import LabelInfo

_COMPARE = {
    ast.Eq: "__eq__",
    ast.NotEq: "__ne__",
    ast.Lt: "__lt__",
    ast.LtE: "__le__",
    ast.Gt: "__gt__",
    ast.GtE: "__ge__",
}
_DERIVED = ("month", "year")
_LONGEST = 10_000


def compile_where(text: str, schema: pa.Schema, labels: Mapping[str, LabelInfo]) -> pc.Expression:
    """Turn an expression into a pyarrow filter.

    Args:
        text: such as `"split == 'train' and month in (6, 7, 8)"`.
        schema: of the index.
        labels: their class names may stand for their numbers.

    Raises:
        UsageError: a syntax error, an unknown name, or something that is not allowed.
    """
    return _Compiler(text, schema, labels).result()


def filter_table(text: str, table: pa.Table, labels: Mapping[str, LabelInfo]) -> pa.Table:
    """Keep the rows for which the expression is true, in their order."""
    try:
        return table.filter(compile_where(text, table.schema, labels))
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"where={text!r}: types do not fit ({reason})") from None


class _Compiler:
    def __init__(self, text: str, schema: pa.Schema, labels: Mapping[str, LabelInfo]) -> None:
        self._text, self._schema, self._labels = text, schema, labels
        self._columns = {
            name: schema.field(name).type
            for name in schema.names
            if "." not in name and name != "geometry"
        }
        self._columns |= dict.fromkeys(_DERIVED, pa.int64())

    def result(self) -> pc.Expression:
        if not isinstance(self._text, str) or len(self._text) > _LONGEST:
            raise UsageError(f"where= takes a text of at most {_LONGEST} characters")
        try:
            tree = ast.parse(self._text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            raise UsageError(f"where={self._text!r}: {reason}") from None
        try:
            return self._truth(tree.body)
        except RecursionError:
            self._refuse("it is nested too deeply")

    def _refuse(self, reason: str) -> NoReturn:
        raise UsageError(f"where={self._text!r}: {reason}")

    def _truth(self, node: ast.expr) -> pc.Expression:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self._truth(value) for value in values]
                result = parts[0]
                for part in parts[1:]:
                    result = result & part if isinstance(op, ast.And) else result | part
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self._truth(operand)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                sides = [left, *rights]
                result = self._compare(left, ops[0], rights[0])
                for place in range(1, len(ops)):
                    result = result & self._compare(sides[place], ops[place], sides[place + 1])
                return result
            case ast.Call(func=ast.Name(id="has"), args=[ast.Constant(value=str(member))]):
                column = f"{member}.offset"
                if column not in self._schema.names or member == "sample":
                    members = [n[:-7] for n in self._schema.names if n.endswith(".offset")]
                    members.remove("sample")
                    self._refuse(f"no member {member!r}; {suggest(member, members)}")
                return pc.field(column).is_valid()
        self._refuse(f"{ast.unparse(node)!r} is no comparison; write one, such as split == 'train'")

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> pc.Expression:
        if isinstance(op, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                self._refuse("'is' is for None only; use ==")
            field = self._field(left, lists=True)
            return field.is_null() if isinstance(op, ast.Is) else field.is_valid()
        if isinstance(op, (ast.In, ast.NotIn)):
            if isinstance(left, ast.Constant) and isinstance(right, ast.Name):
                found = self._substring(left, right)
                return found if isinstance(op, ast.In) else ~found
            if not isinstance(right, (ast.Tuple, ast.List, ast.Set)) or not right.elts:
                self._refuse("'in' takes a list of constants, such as month in (6, 7, 8)")
            field, name = self._field(left), self._name(left)
            values = [self._value(item, name) for item in right.elts]
            try:
                inside = field.isin(pa.array(values))
            except pa.ArrowException:
                self._refuse("the constants after 'in' are of different types")
            # isin calls an unknown value outside; here it stays unknown, whatever is around it
            inside = pc.if_else(field.is_valid(), inside, pa.scalar(None, pa.bool_()))
            return inside if isinstance(op, ast.In) else ~inside
        names = [side for side in (left, right) if isinstance(side, ast.Name)]
        if not names:
            self._refuse(f"{ast.unparse(left)!r} compares no column of the index")
        name = self._name(names[0])
        sides = [
            self._field(side) if isinstance(side, ast.Name) else pc.scalar(self._value(side, name))
            for side in (left, right)
        ]
        return getattr(sides[0], _COMPARE[type(op)])(sides[1])

    def _substring(self, part: ast.Constant, node: ast.Name) -> pc.Expression:
        name = self._name(node)
        if not isinstance(part.value, str) or not pa.types.is_string(self._columns[name]):
            self._refuse(f"'... in {name}' looks for a text in a text column")
        return pc.match_substring(pc.field(name), part.value)

    def _name(self, node: ast.expr, *, lists: bool = False) -> str:
        if not isinstance(node, ast.Name):
            self._refuse(f"{ast.unparse(node)!r} is no column of the index")
        if node.id not in self._columns:
            self._refuse(f"no column {node.id!r}; {suggest(node.id, self._columns)}")
        if pa.types.is_list(self._columns[node.id]) and not lists:
            self._refuse(f"column {node.id!r} holds lists and cannot be compared")
        return node.id

    def _field(self, node: ast.expr, *, lists: bool = False) -> pc.Expression:
        name = self._name(node, lists=lists)
        if name not in _DERIVED:
            return pc.field(name)
        return (pc.month if name == "month" else pc.year)(pc.field("time"))

    def _value(self, node: ast.expr, column: str) -> Any:
        negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
        inner = node.operand if isinstance(node, ast.UnaryOp) and negative else node
        if not isinstance(inner, ast.Constant) or type(inner.value) not in (int, float, str):
            self._refuse(f"{ast.unparse(node)!r} is no number or text (None: write 'is None')")
        value = inner.value
        if negative:
            if isinstance(value, str):
                self._refuse(f"{ast.unparse(node)!r} is no number")
            value = -value  # type: ignore[operator]
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            self._refuse(f"{value} is out of range; numbers have 64 bits")
        if isinstance(value, str) and column == "time":
            try:
                moment = datetime.datetime.fromisoformat(value)
                utc = datetime.UTC
                return moment.astimezone(utc) if moment.tzinfo else moment.replace(tzinfo=utc)
            except ValueError:
                self._refuse(f"time {value!r} is not ISO-8601")
            except OverflowError:
                self._refuse(f"time {value!r} is out of range; years go from 1 to 9999 in UTC")
        text = pa.types.is_string(self._columns[column])
        if isinstance(value, str) and column in self._labels and not text:
            classes = self._labels[column].classes
            if value not in classes:
                self._refuse(f"label {column!r} has no class {value!r}; {suggest(value, classes)}")
            return classes.index(value)
        if text != isinstance(value, str):
            self._refuse(f"column {column!r} holds {'text' if text else 'numbers'}, not {value!r}")
        return value
