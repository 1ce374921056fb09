"""Something the user has to put right, said in one sentence: what was wrong, what was expected, what to change."""


class Problem(Exception):
    """Raised before any trial is played; the command line prints it and exits with 2."""
