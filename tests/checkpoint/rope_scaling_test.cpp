#include "checkpoint/rope_scaling.h"

#include "support/expect_error.h"

namespace ssa {
namespace {

ModelConfig trained_on(int64_t positions) {
  ModelConfig config;
  config.max_position_embeddings = positions;
  config.rope.theta = 500000;
  return config;
}

TEST(RopeScaling, TakesTheLengthFromTheFlagOrTheModel) {
  ModelConfig config = trained_on(8192);
  scale_rope(config, "llama3:4");
  EXPECT_EQ(config.rope.type, RopeType::kLlama3);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.rope.factor, 4);
  EXPECT_EQ(config.rope.low_freq_factor, 1);
  EXPECT_EQ(config.rope.high_freq_factor, 4);
  EXPECT_EQ(config.rope.original_max_position_embeddings, 8192);
  EXPECT_EQ(config.max_position_embeddings, 4 * 8192);

  // A model that is scaled already names the length it was trained on.
  scale_rope(config, "yarn:2.5");
  EXPECT_EQ(config.rope.type, RopeType::kYarn);
  EXPECT_EQ(config.rope.original_max_position_embeddings, 8192);
  EXPECT_EQ(config.max_position_embeddings, 20480);
  scale_rope(config, "none");
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.max_position_embeddings, 8192);

  scale_rope(config, "llama3:2:1000");
  EXPECT_EQ(config.rope.original_max_position_embeddings, 1000);
  EXPECT_EQ(config.max_position_embeddings, 2000);

  config = trained_on(100);
  scale_rope(config, "linear:3");
  EXPECT_EQ(config.rope.type, RopeType::kLinear);
  EXPECT_EQ(config.max_position_embeddings, 300);
}

TEST(RopeScaling, RefusesOtherForms) {
  for (const char* text : {"",
                           "llama3",
                           "llama3:",
                           "llama3:x",
                           "llama3:4x",
                           "llama3:0.5",
                           "llama3:nan",
                           "llama3:inf",
                           "llama3:4:",
                           "llama3:4:0",
                           "llama3:4:-1",
                           "llama3:4:8192:1",
                           "default:2",
                           "ntk:2"}) {
    ModelConfig config = trained_on(8192);
    expect_error([&] { scale_rope(config, text); }, "such as llama3:4:8192");
  }
  ModelConfig config = trained_on(8192);
  expect_error([&] { scale_rope(config, "yarn:1024:2000000000"); }, "too many");
}

}  // namespace
}  // namespace ssa
