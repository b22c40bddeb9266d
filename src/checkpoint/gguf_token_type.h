// Values of tokenizer.ggml.token_type.
#pragma once

#include <cstdint>

namespace ssa {

inline constexpr int32_t kNormalToken = 1;
inline constexpr int32_t kControlToken = 3;      // added, special
inline constexpr int32_t kUserDefinedToken = 4;  // added, not special
inline constexpr int32_t kUnusedToken = 5;       // fills a gap

}  // namespace ssa
