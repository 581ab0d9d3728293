"""What checks shapes while the tests run: beartype, of the annotations that say an array's shape."""

import typing

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

CONF = BeartypeConf(is_pep484_tower=True)  # a whole number is a float


def checked(function):
    """The function, checked by beartype where an annotation holds a shape.

    Other types are mypy's: tests hand over wrong ones on purpose. Fields of a dataclass are not checked as one is
    made, because JAX puts axes and whatever else it maps over in their place.
    """
    if function.__name__ == "__init__" or not any(map(has_shape, function.__annotations__.values())):
        return function
    for name, annotation in function.__annotations__.items():
        if not has_shape(annotation):
            function.__annotations__[name] = typing.Any
    return beartype(function, conf=CONF)


def has_shape(annotation):
    """Whether an annotation is, or holds, an array's."""
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return any(map(has_shape, typing.get_args(annotation)))
