"""Which teacher layer each student layer learns from: g(m) of TinyBERT, section 3.1.

A student with N layers and a teacher with M. Hidden states are counted 0 … N (0 = embedding output),
attention layers 0 … N-1; attention layer i belongs to hidden state i+1.
"""

from __future__ import annotations

from typing import NamedTuple

from files.errors import UserError


class LayerMapping(NamedTuple):
    """Pairs (student index, teacher index) for the hidden-state and for the attention loss."""

    hidden: tuple[tuple[int, int], ...]
    attention: tuple[tuple[int, int], ...]

    def table(self) -> str:
        """Return the mapping as a table to print before training."""
        rows = [("student", "teacher"), *((_name(s), _name(t)) for s, t in self.hidden)]
        return "\n".join(f"{student:<12}{teacher}" for student, teacher in rows)


def _name(hidden_state: int) -> str:
    return f"layer {hidden_state}" if hidden_state else "embeddings"


def layer_mapping(spec: str, student_layers: int, teacher_layers: int) -> LayerMapping:
    """Build the mapping g.

    Args:
        spec: `uniform`, g(m) = m · M/N (M must be a multiple of N); `top`, g(m) = m + M - N; `bottom`,
            g(m) = m; or explicit pairs of layers counted from 1, such as `1:3,2:6,3:9,4:12`. The
            embedding output is always matched with the teacher's.

    Raises:
        UserError: the depths do not fit the strategy, or a pair names a layer that is not there.
    """
    n, m = student_layers, teacher_layers
    if spec == "uniform":
        if m % n:
            raise UserError(
                f"uniform: the teacher's {m} layers are not a multiple of the student's {n}; "
                f"choose top, bottom or pairs such as 1:{m // n or 1},{n}:{m}"
            )
        pairs = [(i, i * (m // n)) for i in range(1, n + 1)]
    elif spec in ("top", "bottom"):
        if n > m:
            raise UserError(f"{spec}: the student has {n} layers, the teacher only {m}")
        shift = m - n if spec == "top" else 0
        pairs = [(i, i + shift) for i in range(1, n + 1)]
    else:
        pairs = _explicit_pairs(spec, n, m)
    return LayerMapping(
        hidden=((0, 0), *pairs),
        attention=tuple((student - 1, teacher - 1) for student, teacher in pairs),
    )


def _explicit_pairs(spec: str, student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    pairs = []
    for item in spec.split(","):
        student, colon, teacher = item.partition(":")
        if not colon or not student.strip().isdecimal() or not teacher.strip().isdecimal():
            raise UserError(
                f"{spec}: expected uniform, top, bottom or student:teacher pairs like 1:3,2:6"
            )
        pairs.append((int(student), int(teacher)))
    for student, teacher in pairs:
        if not 1 <= student <= student_layers or not 1 <= teacher <= teacher_layers:
            raise UserError(
                f"{student}:{teacher}: layers run from 1 to {student_layers} in the student "
                f"and from 1 to {teacher_layers} in the teacher"
            )
    if len({student for student, _ in pairs}) < len(pairs):
        raise UserError(f"{spec}: a student layer is named twice")
    return sorted(pairs)
