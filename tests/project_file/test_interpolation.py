import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.interpolation import Interpolation, InvalidVariable, insert_variables

from ..support.cpu_time import takes_at_most

VARIABLES = {"PORT": "3000", "EMPTY": "", "HOST": "db"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$PORT:80", "3000:80"),
        ("${PORT}:80", "3000:80"),
        ("${EMPTY:-1}-${EMPTY-2}-${GONE-3}-${GONE:-4}", "1--3-4"),
        ("${PORT:+set}${EMPTY:+set}${EMPTY+empty}", "setempty"),
        ("${GONE:-${ALSO:-${PORT}}}", "3000"),
        ("${PORT?needed}", "3000"),
        ("$$PORT ${GONE:-$$}", "$PORT $"),
        ("a${GONE}b$ALSO", "ab"),
        ("no variable }", "no variable }"),
    ],
)
def test_variables_are_replaced_as_compose_does(text, result):
    assert Interpolation(VARIABLES).replace(text) == result


def test_variables_without_value_and_default_are_known():
    interpolation = Interpolation(VARIABLES)
    interpolation.replace("${PORT:-$UNUSED} ${A} $B ${EMPTY} ${C:-x}")
    assert interpolation.unset == {"A", "B"}


@pytest.mark.parametrize(
    "text", ["${GONE?say so}", "${EMPTY:?}", "${PORT", "${PORT/3/4}", "a $ b", "${}", "${A:-" * 20 + "}" * 20]
)
def test_what_compose_refuses_is_refused_in_a_sentence(text):
    with pytest.raises(InvalidVariable) as caught:
        Interpolation(VARIABLES).replace(text)
    assert str(caught.value).endswith(".")


def test_a_mandatory_variable_has_its_own_message():
    with pytest.raises(InvalidVariable, match=r"The variable GONE is not set: set it to \$PORT, please\."):
        Interpolation({}).replace("${GONE?set it to $$PORT, please}")


def test_the_value_of_an_environment_file_has_variables_of_lines_above():
    assert insert_variables("1${A}${B:-}$$", {"A": "x"}) == "1x$"


def test_a_value_that_compose_refuses_is_taken_as_it_is():
    assert insert_variables("pa$ $A", {"A": "x"}) == "pa$ $A"
    assert insert_variables("${" + "x" * 9000, {}) == "${" + "x" * 4094


def test_variables_of_variables_stay_short():
    variables = {"A0": "xxxxxxxx"}
    with takes_at_most(1):
        for i in range(1, 5000):
            variables[f"A{i}"] = insert_variables(f"$A{i - 1}" * 4, variables)
    assert max(map(len, variables.values())) <= 4096


@given(st.text(st.sampled_from("${}A:-?+\n=\"'# ")))
def test_any_text_is_read_or_refused(text):
    insert_variables(text, {"A": "1"})
    try:
        Interpolation({"A": "1"}).replace(text)
    except InvalidVariable as error:
        assert str(error)
