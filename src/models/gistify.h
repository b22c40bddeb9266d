// Giving a checkpoint gist tokens.
#pragma once

#include <filesystem>

#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "gist/gist_settings.h"

namespace ssa {

/// Writes `source` as a Hugging Face directory with <gist>, <Gist> and <MGist> added, in this
/// order, to the vocabulary: padding rows behind the tokenizer's last token are cut, and the three
/// new rows of the embedding (and of an untied LM head) are the mean of the rows kept (arXiv
/// 2604.20920, section 4). The tokenizer knows them as special tokens, and config.json's key "gist"
/// holds `settings` with their ids. Throws Error if the checkpoint has gists already, or has fewer
/// rows than its tokenizer has tokens.
void gistify(const Checkpoint& source,
             GistSettings settings,
             const std::filesystem::path& folder,
             const ProgressFn& progress = {});

}  // namespace ssa
