// Prompts side by side, as those see them who choose keys and attend.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "gist/gist_layout.h"
#include "gist/mask.h"

namespace ssa {

using torch::Tensor;

/// One prompt's sequence. The layout goes as far as any of its suffixes will; without gists in the
/// sequence it only marks chunks. Null: nobody asks for one.
struct PromptFrame {
  std::shared_ptr<const GistLayout> layout = nullptr;
  int64_t prefix_end = 0;    // index in the sequence: the suffix begins here
  int64_t n_prompt = 0;      // queries from here on count as generated
  int64_t sequence_end = 0;  // no suffix goes further
};

/// Heads of all prompts are heads side by side, prompt by prompt. Prefixes are padded to the
/// longest.
struct SuffixFrame {
  std::vector<PromptFrame> prompts;
  bool has_gists = false;
  MaskRule rule = {};
  int64_t n_layers = 0;
  int64_t n_kv_heads = 1;  // of one prompt
  int64_t group_size = 1;
  torch::Device device = torch::kCPU;

  int64_t n_prompts() const { return static_cast<int64_t>(prompts.size()); }
  int64_t n_all_heads() const { return n_prompts() * n_kv_heads; }  // of keys and values
  int64_t width() const;                                            // tokens of the longest prefix
  int64_t n_places() const;                                         // of the longest suffix

  /// [n_prompts, ...] for the heads of each: [n_all_heads, ...].
  Tensor for_heads(const Tensor& x) const;
};

/// What the prefill's rule shows of its prefix to tokens of one prompt: [n_queries, n_keys] bool on
/// the CPU, n_keys up to the last query or the prefix's end.
Tensor shown_prefix(const SuffixFrame& frame, const PromptFrame& prompt, Range queries);

/// Of each prompt, what its suffix sees of its prefix by place, padded: [n_prompts, n_places,
/// width] bool on the frame's device. `rows_of` gives one prompt's [its places, prefix_end] on the
/// CPU.
template <class Fn>
Tensor stack_places(const SuffixFrame& frame, const Fn& rows_of) {
  Tensor all = torch::zeros({frame.n_prompts(), frame.n_places(), frame.width()}, torch::kBool);
  for (int64_t i = 0; i < frame.n_prompts(); ++i) {
    const Tensor rows = rows_of(frame.prompts[static_cast<size_t>(i)]);
    all[i].narrow(0, 0, rows.size(0)).narrow(1, 0, rows.size(1)).copy_(rows);
  }
  return all.to(frame.device);
}

}  // namespace ssa
