// The same keys of the prefix for every query: streaming and heavy hitters.
#pragma once

#include "evaluation/key_chooser.h"

namespace ssa {

/// What both have in common: how many, and that they stay.
class FixedChooser : public KeyChooser {
 public:
  FixedChooser(const StreamMethod& stream, int64_t first_stream, const SuffixFrame& frame)
      : KeyChooser({first_stream, first_stream + 1}),
        frame_(frame),
        stream_(stream),
        prefix_(static_cast<size_t>(frame.n_layers)) {}

  void begin_pass(const SuffixRows& rows) override;
  Tensor attended(int64_t layer, const Tensor& q, const Tensor& keys) override;

 protected:
  /// [n_heads, width] bool with n [n_prompts, 1] of each prefix's keys. The key indices [width] and
  /// the prefixes' ends [n_prompts, 1] are on the device.
  virtual Tensor choose(int64_t layer, const Tensor& n) const = 0;

  SuffixFrame frame_;
  Tensor key_, end_;

 private:
  StreamMethod stream_;
  Tensor n_keys_;  // [n_layers, n_prompts, 1] int64, from the first pass on
  int64_t n_rows_ = 0;
  std::vector<Tensor> prefix_;  // [n_layers]
};

/// The first tokens and the last ones (StreamingLLM, arXiv 2309.17453).
class WindowChooser : public FixedChooser {
 public:
  using FixedChooser::FixedChooser;

 protected:
  Tensor choose(int64_t layer, const Tensor& n) const override;
};

/// Half of the budget for heavy hitters, half for the last tokens, as published (H2O, arXiv
/// 2306.14048). Of tokens that got as much the earlier one is taken.
class HeavyChooser : public FixedChooser {
 public:
  HeavyChooser(const StreamMethod& stream,
               int64_t first_stream,
               const SuffixFrame& frame,
               const ReceivedAttention& received)
      : FixedChooser(stream, first_stream, frame), received_(received) {}

 protected:
  Tensor choose(int64_t layer, const Tensor& n) const override;

 private:
  ReceivedAttention received_;
};

}  // namespace ssa
