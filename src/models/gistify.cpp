#include "models/gistify.h"

#include "base/error.h"
#include "checkpoint/hf_save.h"
#include "models/gistified_checkpoint.h"
#include "tensor/convert.h"

namespace ssa {

void gistify(const Checkpoint& source,
             GistSettings settings,
             const std::filesystem::path& folder,
             const ProgressFn& progress) {
  check(source.config().gist.is_null(), "this checkpoint has gist settings already");
  const torch::InferenceMode inference;
  const std::shared_ptr<const Checkpoint> borrowed(std::shared_ptr<const void>(), &source);
  const GistifiedCheckpoint gistified(borrowed, std::move(settings), rows_in_use(source));
  HfSaveOptions options;
  options.progress = progress;
  save_hf_checkpoint(gistified, folder, options);
}

}  // namespace ssa
