"""The one error that bad input raises anywhere; other rooms import it from `object_centric_ros.errors`."""

from __future__ import annotations


class InputError(ValueError):
    """Input that cannot be used; says what was expected and what came.

    Args:
        what: the thing that is wrong, e.g. ``"image encoding"`` or ``"config.yaml: training.batch_size"``.
        expected: what would have been accepted.
        got: what was found instead.
    """

    def __init__(self, what: str, expected: object, got: object) -> None:
        self.what, self.expected, self.got = what, expected, got
        super().__init__(f'{what}: expected {expected}, got {got}')

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:  # so that it comes back from a worker
        return type(self), (self.what, str(self.expected), str(self.got))
