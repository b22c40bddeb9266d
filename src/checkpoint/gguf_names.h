// Tensor names and row orders: Hugging Face's against GGUF's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/model_config.h"

namespace ssa {

/// "blk.0.attn_q.weight" -> "model.layers.0.self_attn.q_proj.weight"; nothing for names that have
/// no counterpart.
std::optional<std::string> hf_tensor_name(std::string_view gguf_name);
/// The other way round.
std::optional<std::string> gguf_tensor_name(std::string_view hf_name);

/// The tensor of llama3 RoPE's frequency divisors, which has no counterpart: its values are part of
/// the configuration.
inline constexpr std::string_view kRopeFreqsName = "rope_freqs.weight";

/// Heads whose rows GGUF stores in another order; 0 if this tensor's rows are stored as they are.
///
/// Architecture "llama" rotates neighbouring rows of a head together where Hugging Face rotates row
/// j with row j + head_dim / 2, so its files interleave each head's halves (weights and biases of q
/// and k):
///
///   Hugging Face  a0 a1 a2 b0 b1 b2     GGUF  a0 b0 a1 b1 a2 b2
int64_t interleaved_heads(const ModelConfig& config, std::string_view hf_name);

/// Copies `n_heads` heads of rows, all of one size in bytes, from GGUF's order to Hugging Face's.
/// Both spans hold the whole tensor, whose rows per head are an even number.
void split_interleaved_heads(std::span<const std::byte> in,
                             std::span<std::byte> out,
                             int64_t n_heads,
                             size_t row_bytes);
/// The inverse.
void interleave_heads(std::span<const std::byte> in,
                      std::span<std::byte> out,
                      int64_t n_heads,
                      size_t row_bytes);

}  // namespace ssa
