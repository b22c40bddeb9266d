// Objective sparse-sparse: one of two streams, full or sparse attention, feeds the layers, and each
// layer pulls the two streams' outputs together (arXiv 2511.20102).
//
//   layer:  full = gate * attention over all keys         sparse = gate * attention over chosen
//   blocks
//           next layer reads the micro-batch's stream      loss += L1(full, stop(sparse)) +
//           L1(stop(full), sparse)
//
// L1: smooth, beta 1, mean over all elements. Baselines are the same code with less of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "selection/block_options.h"
#include "training/batch.h"
#include "training/training_attention.h"

namespace ssa {

enum class SparseVariant {
  kSsa,            // both streams, drawn, aligned
  kFullAttention,  // the full stream alone
  kMoba,           // the sparse stream alone
  kNsa,            // chosen blocks, compressed blocks and a window, a gate each; llama-nsa models
};

/// Which output learns from the other one, which is held fixed.
enum class Alignment { kBoth, kNone, kFull, kSparse };

enum class StreamDraw { kBatch, kLayer };

struct SparseSparseOptions {
  BlockOptions blocks = {};
  SparseVariant variant = SparseVariant::kSsa;
  double alignment_weight = 10;
  Alignment alignment = Alignment::kBoth;  // of kSsa
  StreamDraw stream = StreamDraw::kBatch;  // of kSsa
  int64_t window = 128;                    // tokens, of kNsa
  uint64_t seed = 0;                       // of the draws

  bool aligns() const { return variant == SparseVariant::kSsa && alignment != Alignment::kNone; }
};

// Names as recipes have them; throw Error with those known.
SparseVariant parse_sparse_variant(
    const std::string& name);                           // ssa or sparse-sparse, fullattn, moba, nsa
Alignment parse_alignment(const std::string& name);     // both, none, full, sparse
StreamDraw parse_stream_draw(const std::string& name);  // batch, layer
BlockRule parse_block_rule(const std::string& name);    // exact, published

enum class Stream { kFull, kSparse };

/// The stream that feeds each layer of a micro-batch: of its first row's number and the seed alone,
/// so that runs that go on, and any number of processes, draw the same.
std::vector<Stream> draw_streams(const SparseSparseOptions& options,
                                 uint64_t row_number,
                                 int64_t n_layers);

/// Attends each sequence of a batch without gists by itself. Refers to the batch. attend() may be
/// called again for a layer.
class StreamAttention : public TrainingContext {
 public:
  /// `streams`: of each layer.
  StreamAttention(const Batch& batch,
                  const SparseSparseOptions& options,
                  std::vector<Stream> streams);

  Tensor attend(int64_t layer, const AttentionInput& in) override;
  Tensor attend_gated(int64_t layer, const AttentionInput& in, const Tensor& gates) override;

  /// Alignment of the layer that attended last: summed over tokens, mean over heads and their
  /// features. Undefined without alignment.
  Tensor take_layer_loss() override;

  /// Share of full attention inside the chosen blocks, mean over tokens, heads and the layers that
  /// have attended: [], without gradient. Undefined where no layer computed both streams.
  Tensor kept() const;

 private:
  struct Outputs {
    Tensor full, sparse, kept;  // of all rows, before gates; undefined where not needed
  };
  Outputs attend_groups(const AttentionInput& in, bool full, bool sparse) const;
  Tensor attend_nsa(const AttentionInput& in, const Tensor& gates) const;
  Tensor attend_streams(int64_t layer, const AttentionInput& in, const Tensor& gate);

  const Batch& batch_;
  SparseSparseOptions options_;
  std::vector<Stream> streams_;
  Tensor layer_loss_;
  std::vector<Tensor> kept_;  // by layer
};

}  // namespace ssa
