// Prompts as JSON files of token ids.
#pragma once

#include <string>

#include "cli/attention_flags.h"

namespace ssa {

/// A list of token ids or {"ids": [...]} (one piece, no suffix), {"prefix": [...], "suffix":
/// [...]}, or
/// {"pieces": [[...], ...], "suffix": [...]}. Throws Error naming the file and the key or value
/// that is wrong.
PromptParts read_prompt_parts(const std::string& path);

}  // namespace ssa
