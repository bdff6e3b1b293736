"""The one exception that bad input raises anywhere in the package."""


class LessonsError(ValueError):
    """Bad input: what was wrong, where it was, and what to do about it.

    >>> print(LessonsError("not base64", where="pairs.tsv, line 3", remedy="Encode it."))
    not base64 (pairs.tsv, line 3). Encode it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        place = f" ({where})" if where else ""
        advice = f". {remedy}" if remedy else ""
        super().__init__(f"{what}{place}{advice}")

    def __reduce__(self) -> tuple:
        # Exceptions are rebuilt from their positional arguments; ours has keyword ones. Worker
        # processes hand their errors back by pickling.
        return _rebuild, (self.what, self.where, self.remedy)


def _rebuild(what: str, where: str, remedy: str) -> LessonsError:
    return LessonsError(what, where=where, remedy=remedy)
