"""The errors a person can cause and mend. Each message names the thing and the way out."""


class DataError(ValueError):
    """Something about the data is not as it must be; `python -m minigen` prints it and exits with 2."""
