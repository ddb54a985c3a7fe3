import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.project_file.interpolation import Interpolation, InvalidVariable, parse_environment

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


def test_an_environment_file():
    text = """# comment
A=1
export B = two words # comment
C="x\\ny # $A" # comment
D='$A'
E=${A}${B:-}
F=
not a line
G: 5
H="open
1X=1
A=2\r
I=\ttab \t
"""
    assert parse_environment(text) == {
        "A": "2",
        "B": "two words",
        "C": "x\ny # 1",
        "D": "$A",
        "E": "1two words",
        "F": "",
        "G": "5",
        "H": '"open',
        "I": "tab",
    }


def test_variables_of_variables_stay_short():
    text = "A0=xxxxxxxx\n" + "".join(f"A{i}=$A{i - 1}$A{i - 1}$A{i - 1}$A{i - 1}\n" for i in range(1, 5000))
    start = time.process_time()
    assert max(map(len, parse_environment(text).values())) <= 4096
    assert time.process_time() - start < 1


@given(st.text(st.sampled_from("${}A:-?+\n=\"'# ")))
def test_any_text_is_read_or_refused(text):
    parse_environment(text)
    try:
        Interpolation({"A": "1"}).replace(text)
    except InvalidVariable as error:
        assert str(error)
