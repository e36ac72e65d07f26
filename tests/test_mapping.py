"""Layer mappings: g(m) of the paper, its variants, and what cannot be mapped."""

import pytest

from distillation.mapping import layer_mapping
from files.errors import UserError


@pytest.mark.parametrize(
    "spec, n, m, teacher_layers",
    [
        ("uniform", 4, 12, [3, 6, 9, 12]),
        ("uniform", 6, 12, [2, 4, 6, 8, 10, 12]),
        ("uniform", 3, 12, [4, 8, 12]),
        ("uniform", 12, 12, list(range(1, 13))),
        ("uniform", 1, 12, [12]),
        ("top", 4, 12, [9, 10, 11, 12]),
        ("top", 6, 12, [7, 8, 9, 10, 11, 12]),
        ("top", 3, 4, [2, 3, 4]),
        ("bottom", 4, 12, [1, 2, 3, 4]),
        ("bottom", 6, 12, [1, 2, 3, 4, 5, 6]),
        ("bottom", 3, 3, [1, 2, 3]),
    ],
)
def test_strategies_follow_their_formula(spec, n, m, teacher_layers):
    mapping = layer_mapping(spec, n, m)
    assert mapping.hidden == ((0, 0), *zip(range(1, n + 1), teacher_layers, strict=True))
    assert mapping.attention == tuple((s, t - 1) for s, t in enumerate(teacher_layers))


@pytest.mark.parametrize("n, m", [(4, 12), (6, 12), (3, 12), (2, 24)])
def test_uniform_attention_is_that_of_the_published_code(n, m):
    g = m // n
    assert layer_mapping("uniform", n, m).attention == tuple((i, g * i + g - 1) for i in range(n))


def test_explicit_pairs_count_from_one_and_may_leave_layers_out():
    mapping = layer_mapping("3:12, 1:2", 4, 12)
    assert mapping.hidden == ((0, 0), (1, 2), (3, 12))
    assert mapping.attention == ((0, 1), (2, 11))


def test_explicit_pairs_can_spell_every_strategy():
    assert layer_mapping("1:3,2:6,3:9,4:12", 4, 12) == layer_mapping("uniform", 4, 12)
    assert layer_mapping("1:9,2:10,3:11,4:12", 4, 12) == layer_mapping("top", 4, 12)


def test_two_student_layers_may_learn_from_one_teacher_layer():
    assert layer_mapping("1:6,2:6", 2, 6).hidden == ((0, 0), (1, 6), (2, 6))


@pytest.mark.parametrize(
    "spec, n, m, said",
    [
        ("uniform", 5, 12, "12 layers are not a multiple of the student's 5"),
        ("uniform", 4, 2, "2 layers are not a multiple of the student's 4"),
        ("top", 6, 4, "the student has 6 layers, the teacher only 4"),
        ("bottom", 6, 4, "the student has 6 layers, the teacher only 4"),
        ("1:13", 4, 12, "1 to 4 in the student and from 1 to 12 in the teacher"),
        ("0:1", 4, 12, "1 to 4 in the student"),
        ("5:1", 4, 12, "1 to 4 in the student"),
        ("1:0", 4, 12, "1 to 12 in the teacher"),
        ("1:2,1:3", 4, 12, "a student layer is named twice"),
        *(
            (spec, 4, 12, "expected uniform, top, bottom or student:teacher pairs")
            for spec in ("", "Uniform", "1", "1:2,", "a:b", "1:2:3", "-1:2", "1.0:2", ":", "1:²")
        ),
    ],
)
def test_what_cannot_be_mapped_is_refused_in_one_line(spec, n, m, said):
    with pytest.raises(UserError) as error:
        layer_mapping(spec, n, m)
    message = str(error.value)
    assert message.startswith(spec[:1]) and said in message and "\n" not in message


@pytest.mark.parametrize("n, m", [(5, 12), (4, 6), (4, 2)])
def test_the_advice_after_a_failed_uniform_mapping_works(n, m):
    with pytest.raises(UserError) as error:
        layer_mapping("uniform", n, m)
    layer_mapping(str(error.value).rsplit(" ", 1)[1], n, m)


def test_the_table_names_every_pair():
    assert layer_mapping("uniform", 4, 12).table().splitlines() == [
        "student     teacher",
        "embeddings  embeddings",
        "layer 1     layer 3",
        "layer 2     layer 6",
        "layer 3     layer 9",
        "layer 4     layer 12",
    ]


def test_the_table_has_a_line_for_each_layer_of_each_strategy():
    for spec in ("uniform", "top", "bottom"):
        rows = layer_mapping(spec, 6, 12).table().splitlines()
        assert len(rows) == 8
