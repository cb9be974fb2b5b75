"""How secrets look in a repr."""


def hidden(value: object) -> str:
    """The repr of an attrs field that holds a secret: whether there is one, and no more."""
    return "None" if value is None else "<hidden>"
