// How long LibTorch's OpenMP threads spin before they sleep, while they wait for their next loop.
#pragma once

namespace ssa {

/// GNU's OpenMP lets them spin for milliseconds. Where other programs want the same cores too, each
/// loop of theirs waits for that, and each of ours for theirs: decoding is then 100 times slower.
/// A shorter while costs nothing on idle cores (docs/performance.md). The library reads its
/// settings as it is loaded, before main(): so this sets GOMP_SPINCOUNT and starts the program once
/// more, in the same process, within 0.2 s. Returns where the user has set it or OMP_WAIT_POLICY,
/// or starting fails.
void shorten_spinning(char** argv);

}  // namespace ssa
