"""What a step's trace (`metrics.profile_step`) says: the device's busiest kernels, its idle time, and how much of the reduction hides.

Usage: python3 tools/training/summarize_trace.py TRACE.json [--top 25]

Times are of the device. "Hidden" is the share of the collectives' time during which some other kernel runs. Python's standard library alone.
"""

import argparse
import collections
import json


def merged(spans):
    """Overlapping (begin, end) united, in order."""
    out = []
    for begin, end in sorted(spans):
        if out and begin <= out[-1][1]:
            out[-1][1] = max(out[-1][1], end)
        else:
            out.append([begin, end])
    return out


def length(spans):
    return sum(end - begin for begin, end in spans)


def overlap(a, b):
    """Time that two merged lists share."""
    shared, i, j = 0.0, 0, 0
    while i < len(a) and j < len(b):
        shared += max(0.0, min(a[i][1], b[j][1]) - max(a[i][0], b[j][0]))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return shared


def print_gaps(spans, events, n):
    """The device's longest rests, and what the program was calling when each ended."""
    gaps = sorted(((b[0] - a[1], a[1], b[0]) for a, b in zip(spans, spans[1:])), reverse=True)
    for limit in (1000, 100, 20, 0):
        some = [gap for gap, _, _ in gaps if gap >= limit]
        print(f"rests of {limit} us and more: {len(some)}, {sum(some) / 1e3:.2f} ms together")
    calls = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("cpu_op", "cuda_runtime", "user_annotation")]
    for gap, begin, end in gaps[:n]:
        during = collections.Counter()
        for e in calls:
            shared = min(end, e["ts"] + e["dur"]) - max(begin, e["ts"])
            if shared > 0:
                during[e["name"]] += shared
        print(f"  {gap:8.0f} us: " + ", ".join(f"{name} {time:.0f}" for name, time in during.most_common(6)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--gaps", type=int, default=0, help="show so many of the device's longest rests")
    args = parser.parse_args()
    events = json.load(open(args.trace))["traceEvents"]
    device = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    if not device:
        raise SystemExit(f"{args.trace} holds no device events")
    spans = [(e["ts"], e["ts"] + e["dur"]) for e in device]
    whole = max(end for _, end in spans) - min(begin for begin, _ in spans)
    busy = length(merged(spans))
    print(f"device: {whole / 1e3:.2f} ms from first to last event, busy {busy / 1e3:.2f} ms ({busy / whole:.0%}), {len(device)} events")
    print_gaps(merged(spans), events, args.gaps)
    by_name = collections.defaultdict(lambda: [0.0, 0])
    for e in device:
        entry = by_name[e["name"][:110]]
        entry[0] += e["dur"]
        entry[1] += 1
    for name, (total, count) in sorted(by_name.items(), key=lambda item: -item[1][0])[:args.top]:
        print(f"{total / 1e3:9.2f} ms {count:6d} x  {name}")
    is_reduction = ["nccl" in e["name"].lower() for e in device]
    reductions = merged(span for span, yes in zip(spans, is_reduction) if yes)
    if reductions:
        hidden = overlap(reductions, merged(span for span, yes in zip(spans, is_reduction) if not yes))
        print(f"collectives: {length(reductions) / 1e3:.2f} ms, hidden {hidden / 1e3:.2f} ms ({hidden / length(reductions):.0%})")


if __name__ == "__main__":
    main()
