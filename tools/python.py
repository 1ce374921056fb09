"""Python in a box: a script of ours runs there with its arguments as data, and says in its last line why it could not."""

from tools.pair import Box, Result, ToolFailed


def run(box: Box, source: str, *arguments: str, stdin: str = "") -> Result:
    """Run a script that imports the standard library alone. Raises ToolFailed with the last line of its complaint."""
    done = box.exec("python3", "-ISc", source, *arguments, stdin=stdin)
    if not done.ok:
        raise ToolFailed(done.stderr.strip().rsplit("\n", 1)[-1] or done.text)
    return done
