"""`key = value` where YAML wants `key: value`: the vendor's own sample of authorizationAttributes is written so."""

import re

from trio_broker.resources.problems import Place, Problems

_ASSIGNMENT = re.compile(r"""^(?P<indent>[ ]*)(?:-[ ]+)?(?P<key>[A-Za-z0-9_.-]+)[ ]*=[ ]*(?P<value>[^\s=].*?)[ ]*$""")
_ATTRIBUTES = re.compile(r"^(?P<indent>[ ]*)(?:-[ ]+)?authorizationAttributes:")
_LINES_ABOVE = 2
"""Lines above the one where YAML gave up in which the cause may stand."""
_LONGEST_LINE = 500


def explain_assignments(text: str, file: str, line: int, problems: Problems) -> bool:
    """Whether `key = value` explains that the YAML of `text` ends in `line`; if so, every such line is a problem."""
    lines = re.split(r"\r\n|\r|\n", text)
    start = _attributes_above(lines, line)
    if start is not None:
        found = [number for number in _block(lines, start) if corrected(lines[number - 1])]
        for number in found:
            suggestion = corrected(lines[number - 1])
            problems.add(Place(file, number, "authorizationAttributes"), "this is TOML, not YAML", suggestion)
        if found:
            return True
    for number in range(line, max(0, line - 1 - _LINES_ABOVE), -1):
        if number <= len(lines) and (match := _match(lines[number - 1])):
            # Its value is not shown: it may be a secret.
            key = match["key"]
            problems.add(Place(file, number), f"this is not YAML: write {key}: …, with a colon, instead of {key} = …")
            return True
    return False


def corrected(line: str) -> str:
    """The line as YAML; "" when it is none of the form key = value."""
    match = _match(line)
    if match is None:
        return ""
    return f"{match['key']}: {quoted(match['value'])}"


def quoted(value: str) -> str:
    """The value in quotation marks, if it is not yet."""
    return value if value[0] in "\"'" else f'"{value}"'


def _match(line: str) -> re.Match[str] | None:
    return _ASSIGNMENT.match(line) if len(line) <= _LONGEST_LINE else None


def _attributes_above(lines: list[str], line: int) -> int | None:
    """The number of the line with the authorizationAttributes that `line` belongs to."""
    for number in range(min(line, len(lines)), 0, -1):
        if _ATTRIBUTES.match(lines[number - 1]):
            return number if line in _block(lines, number) or line == number else None
    return None


def _block(lines: list[str], start: int) -> list[int]:
    """The numbers of the lines that belong to the key in line `start`."""
    head = lines[start - 1]
    indent = len(head) - len(head.lstrip(" -"))
    block = []
    for number in range(start + 1, len(lines) + 1):
        content = lines[number - 1]
        if content.strip() and len(content) - len(content.lstrip(" ")) <= indent:
            break
        block.append(number)
    return block
