"""YAML text to trees: lines, bounds, and nothing but text, numbers, lists and mappings."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.trio_broker.resources.support import problems
from trio_broker.resources.document import (
    MAXIMUM_BYTES,
    MAXIMUM_DEPTH,
    Document,
    Mapping,
    Scalar,
    Sequence,
    parse,
)
from trio_broker.resources.problems import Problems


def parsed(text: str | bytes) -> tuple[list[Document], list[str]]:
    found = Problems()
    documents, _ = parse(text.encode() if isinstance(text, str) else text, "f", found)
    return documents, [str(problem) for problem in found.problems]


def plain(node: object) -> object:
    match node:
        case Scalar(kind="str", text=text):
            return text
        case Scalar(kind=kind, text=text):
            return (kind, text)
        case Sequence(items=items):
            return [plain(item) for item in items]
        case Mapping(entries=entries):
            return {key: plain(value) for key, value in entries.items()}
    raise AssertionError(node)


def test_documents_have_lines_and_kinds() -> None:
    documents, wrong = parsed(
        "a: text\nb: [1, 2.5, true, ~, 2020-01-01, '3']\n---\n---\n# nothing\n---\n- x\n-\n  y: z\n"
    )
    assert wrong == []
    assert [plain(document.root) for document in documents] == [
        {"a": "text", "b": [("int", "1"), ("float", "2.5"), ("bool", "true"), ("null", "~"), "2020-01-01", "3"]},
        ["x", {"y": "z"}],
    ]
    first, second = (document.root for document in documents)
    assert isinstance(first, Mapping)
    assert first.lines == {"a": 1, "b": 2}
    assert isinstance(second, Sequence)
    assert [item.line for item in second.items] == [7, 9]


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_editors_count_them(break_: str) -> None:
    documents, _ = parsed(f"a: '\x85 \u2028'{break_}b: 1{break_}c: 2")
    root = documents[0].root
    assert isinstance(root, Mapping)
    assert root.lines == {"a": 1, "b": 2, "c": 3}


def test_aliases_and_merge_keys_are_followed() -> None:
    documents, wrong = parsed("base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\nmany:\n  <<: [*base, {c: x}]\n")
    assert wrong == []
    one, two = ("int", "1"), ("int", "2")
    assert plain(documents[0].root) == {
        "base": {"a": one, "b": two},
        "other": {"a": one, "b": ("int", "3")},
        "many": {"a": one, "b": two, "c": "x"},
    }


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: a: the key stands here twice, first in line 1"),
        ("1: a", "f:1: a key must be text: put it in quotes"),
        ("[a]: b", "f:1: a key must be text: put it in quotes"),
        ("a:\n  yes: b", "f:2: a key must be text: put it in quotes"),
        (BOMB, "there are more than 200000 values, counting what aliases repeat"),
        ("a: &a [*a]", "an alias (*) of something not named before"),
        ("a: 1\npassword: *hunter2", "f:2: an alias (*) of something not named before; quote text that begins so"),
        ("a:\n  <<: text", "f:2: a merge key (<<) takes a mapping, or a list of them"),
        ("a: !!python/object/apply:os.system [ls]", "f:1: tags (!…) are not supported"),
        ("a: !secret x", "f:1: tags (!…) are not supported; quote text that begins so"),
        ("a: !!binary aGVsbG8=", "f:1: tags (!…) are not supported"),
        ("a: !!set {b}", "f:1: tags (!…) are not supported"),
        ("[" * 10_000, f"f:1: values are nested more than {MAXIMUM_DEPTH} levels deep"),
        ("- " * 10_000, f"f:1: values are nested more than {MAXIMUM_DEPTH} levels deep"),
        ("{a: " * 10_000, f"f:1: values are nested more than {MAXIMUM_DEPTH} levels deep"),
        ("a: 1\n\tb: 2", "f:2: this is not YAML"),
        ("a: 'b\n", "this is not YAML"),
        ("a: [1,\n", "this is not YAML"),
        ('a: "\\UFFFFFFFF"', "f:1: this is not YAML: an escape or directive with an impossible number"),
        ('a: "\\uD800"', "f:1: half of a surrogate pair is no character"),
        ("%YAML 1." + "1" * 5000 + "\n---\na", "this is not YAML"),
        ("a: 1\nb: \0", "f:2: a character that YAML does not allow"),
        (b"a: 1\nb: \xff", "f:2: the file is not UTF-8 text"),
        (b"x" * (MAXIMUM_BYTES + 1), f"f: the file has more than {MAXIMUM_BYTES} bytes"),
        ("a: 1\nb = c\nd: 2", "f:2: this is not YAML: write b: …, with a colon, instead of b = …"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str | bytes, line: str) -> None:
    _, wrong = parsed(text)
    assert len(wrong) == 1
    assert line in wrong[0]


def test_documents_before_the_mistake_are_kept() -> None:
    documents, wrong = parsed("a: 1\n---\nb: [\n")
    assert len(documents) == len(wrong) == 1


@pytest.mark.parametrize(
    "text",
    [
        "password: !hunter2!x y",
        "password: *hunter2",
        "password: &hunter2 &hunter2 x",
        "x: 1\npassword = hunter2\ny: 2",
        'password: "\\hunter2"',
        "password: %hunter2",
        "password: @hunter2",
        "password: 'hunter2' 'hunter2'",
        "password: hunter2: hunter2",
        "password: |hunter2",
        "password: {hunter2: [hunter2}",
    ],
)
def test_nothing_of_a_secret_is_shown(text: str) -> None:
    _, wrong = parsed(text)
    assert wrong
    assert "hunter2" not in wrong[0]


PASTED = (Path(__file__).parent / "pasted.yaml").read_text()


def test_the_vendors_sample_that_is_not_yaml_is_shown_corrected() -> None:
    wrong = problems(PASTED)
    expected = {
        'subject = "CN = Contoso Root CA Cert, OU = Engineering, C = US"': (
            'subject: "CN = Contoso Root CA Cert, OU = Engineering, C = US"'
        ),
        "organization = contoso": 'organization: "contoso"',
        'subject = "CN = Contoso Intermediate CA"': 'subject: "CN = Contoso Intermediate CA"',
        "city = seattle": 'city: "seattle"',
        "foo = bar": 'foo: "bar"',
        'subject = "CN = smart-fan"': 'subject: "CN = smart-fan"',
        "building = 17": 'building: "17"',
    }
    lines = {
        number: expected[line.strip()] for number, line in enumerate(PASTED.splitlines(), 1) if line.strip() in expected
    }
    assert wrong == [
        f"0.yaml:{number}: authorizationAttributes: this is TOML, not YAML (did you mean {corrected}?)"
        for number, corrected in lines.items()
    ]
    assert len(wrong) == 7


def test_the_rest_of_the_sample_is_shown_corrected_once_subjects_are_right() -> None:
    wrong = [line for line in problems(re.sub(r"subject = ", "subject: ", PASTED)) if "TOML" in line]
    assert len(wrong) == 3
    assert wrong[1].endswith(
        '.intermediate.attributes: this is TOML, not YAML (did you mean city: "seattle", foo: "bar"?)'
    )


def test_toml_in_a_secret_is_not_taken_for_the_sample() -> None:
    text = "stringData:\n  a.toml: |\n    [root]\n    subject = 'CN = a'\n\n\n\nspec: [\n"
    _, wrong = parsed(text)
    assert len(wrong) == 1
    assert "is not YAML" in wrong[0]
    assert "subject" not in wrong[0]


YAML_LIKE = st.text(st.sampled_from("ab:- \n\t#'\"|>[]{},&*!%?@`<=~0129.\\xuU\r\x85\u2028\ufeff\0"), max_size=60)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200), YAML_LIKE))
@example("\ufeff\ufeff[")
@example('"\\x')
@example("? ?\n: :")
@example("a: &b\n*b : c\n---\n*b")
def test_any_bytes_give_trees_or_problems_with_a_line_of_the_file(content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    found = Problems()
    documents, complete = parse(data, "f", found)
    assert complete or found.problems
    lines = len(re.split(r"\r\n|\r|\n", data.decode("utf-8-sig", "replace")))
    for problem in found.problems:
        assert 1 <= problem.line <= lines
        assert "\n" not in str(problem)
    for document in documents:
        assert 1 <= document.root.line <= lines
