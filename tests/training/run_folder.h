// A folder with a tiny model's configuration, a dataset of letters and recipes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/remove_folder.h"
#include "data/dataset_writer.h"
#include "training/recipe.h"
#include "training/tiny_training.h"

namespace ssa {

/// Gone with the test.
class RunFolder {
 public:
  RunFolder() {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::temp_directory_path() /
            ("ssa_training_" + std::to_string(getpid()) + "_" + test->name());
    remove_folder(path_);
    std::filesystem::create_directories(path_ / "model");
    write_file(path_ / "model/config.json", dump_json(tiny_config(), 2));
  }
  ~RunFolder() { remove_folder(path_); }
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

  void write_dataset() const {
    DatasetMeta meta;
    meta.tokenizer = "letters";
    meta.vocab_size = 128;
    DatasetWriter writer(path_ / "dataset", meta);
    std::mt19937 random(1);
    for (int i = 0; i < 40; ++i) {
      std::vector<int64_t> letters;
      for (size_t n = 30 + random() % 40; letters.size() < n;) {
        letters.push_back(static_cast<int64_t>('a' + random() % 4));
      }
      writer.add_document(letters);
    }
    writer.commit();
  }

  std::string recipe_text() const {
    return "[job]\noutput = '" + (path_ / "out").string() + "'\n[model]\npath = '" +
           (path_ / "model").string() +
           "'\ninit = 'random'\ndtype = 'f32'\ndevice = 'cpu'\n[data]\nsources = ['" +
           (path_ / "dataset").string() +
           "']\nseq_len = 48\nsuffix_min = 6\nsuffix_max = 10\n[gist]\nchunks = [4, {chunk = "
           "'3-2', weight = 0.5}]\nword_aware = false\nsink = 2\n"
           "[objective]\ncpt = 1.0\n[optimizer]\nlr = 1e-2\n[training]\nsteps = "
           "4\nglobal_batch_size = 4\nmicro_batch_size = 2\n"
           "[metrics]\nlog_interval = 1\ntensorboard = false\n";
  }

  /// The recipe above, `more` behind it, read with the overrides.
  Recipe recipe(const std::vector<std::string>& overrides = {},
                const std::string& more = "") const {
    return read_text(recipe_text() + more, overrides);
  }
  Recipe read_text(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    write_file(path_ / "recipe.toml", text);
    return read_recipe(path_ / "recipe.toml", overrides);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace ssa
