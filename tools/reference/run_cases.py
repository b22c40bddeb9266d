"""Runs a comparison over random cases and says what it found."""

import random


def run_cases(comparison, random_case, arguments, folder):
    """The exit status: 1 if a case differs and rounding does not decide it.

    comparison.run(number, case) returns (lines, largest, decided, command): what differs, the largest
    difference, whether a difference counts, and what was run. random_case(generator) makes a case.
    """
    generator = random.Random(arguments.seed)
    n_run = n_failed = n_undecided = 0
    worst = 0.0
    for number in range(arguments.cases):
        case = random_case(generator)
        if arguments.only is not None and number != arguments.only:
            continue
        lines, largest, decided, command = comparison.run(number, case)
        n_run += 1
        if not lines:
            worst = max(worst, largest)
            continue
        verdict = "differs" if decided else "differs, but rounding decides its choice (not counted)"
        n_failed += decided
        n_undecided += not decided
        print(f"case {number} (of seed {arguments.seed}) {verdict}:", *lines, sep="\n    ")
        print("    ", str(case)[:1500])
        print("    command:", " ".join(command), flush=True)
    print(
        f"{n_run} cases, {n_failed} differ, {n_undecided} undecided; "
        f"largest difference of the others {worst:.3g}; files in {folder}"
    )
    return int(n_failed > 0)
