"""Runs the program under test and says clearly how it failed."""

import json
import subprocess


class ProgramFailed(Exception):
    pass


def run(command, timeout=120):
    """Standard output of a command that must succeed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except FileNotFoundError:
        raise SystemExit(
            f"no program at {command[0]}: build it, or name it with --program"
        ) from None
    except subprocess.TimeoutExpired:
        raise ProgramFailed(f"ran longer than {timeout} s") from None
    if done.returncode != 0:
        raise ProgramFailed(f"exit status {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def write_json(path, content):
    with open(path, "w") as file:
        json.dump(content, file)


def first_difference(name, ours, theirs):
    """One line about two lists, or None if they are equal. `ours` is the reference."""
    ours, theirs = list(ours), list(theirs)
    if ours == theirs:
        return None
    if len(ours) != len(theirs):
        return f"{name}: {len(theirs)} entries, the reference has {len(ours)}: {theirs} / {ours}"
    at = next(i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b)
    return f"{name}[{at}]: {theirs[at]}, the reference says {ours[at]}"
