// Prompts as text, or as JSON files of token ids.
#pragma once

#include <functional>
#include <string>

#include "cli/attention_flags.h"
#include "cli/command.h"

namespace ssa {

/// A list of token ids or {"ids": [...]} (one piece, no suffix), {"prefix": [...], "suffix":
/// [...]}, or
/// {"pieces": [[...], ...], "suffix": [...]}. Throws Error naming the file and the key or value
/// that is wrong: ids are integers from 0 on.
PromptParts read_prompt_parts(const std::string& path);

/// Adds --text, and --ids with a file for read_prompt_parts(); one excludes the other. What comes
/// back throws UsageError if neither was given, once the command line is parsed.
std::function<void()> add_text_or_ids_flags(CLI::App& app,
                                            std::string& text,
                                            std::string& ids_file);

}  // namespace ssa
