#include "cli/command.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"

namespace ssa {
namespace {

/// What refuse_llama_flags() says of "ssa generate MODEL WORDS"; empty if nothing.
std::string complaint(std::vector<const char*> words) {
  words.insert(words.begin(), {"generate", "model"});
  try {
    refuse_llama_flags(words);
  } catch (const UsageError& error) {
    return error.what();
  }
  return {};
}

TEST(RefuseLlamaFlags, NamesTheFlagOfThisProgram) {
  const std::pair<const char*, const char*> cases[] = {{"-ngl", "--device cuda"},
                                                       {"-mg", "--device cuda:N"},
                                                       {"-sm", "--device"},
                                                       {"-ts", "--device"},
                                                       {"-fa", "nothing"},
                                                       {"-ctk", "--kv-dtype"},
                                                       {"-ctv", "--kv-dtype"},
                                                       {"-ub", "-b"},
                                                       {"-sys", "--system"},
                                                       {"-cnv", "--chat"},
                                                       {"-no-cnv", "nothing"},
                                                       {"-hf", "local file or folder"}};
  for (const auto& [flag, here] : cases) {
    const std::string message = complaint({flag, "99"});
    EXPECT_TRUE(message.starts_with(std::string(flag) + " is llama.cpp's; here: ")) << message;
    EXPECT_NE(message.find(here), std::string::npos) << message;
    EXPECT_EQ(complaint({(std::string(flag) + "=99").c_str()}), message);
  }
}

TEST(RefuseLlamaFlags, LeavesOurOwnFlagsAlone) {
  EXPECT_EQ(complaint({"-p", "hi", "-n", "2", "-c", "64", "-b", "8", "-s", "1", "-t", "2"}), "");
  EXPECT_EQ(complaint({"-n2", "-ofile", "--fa", "fa", "-"}), "");
  EXPECT_EQ(complaint({"--", "-fa"}), "");
}

/// The first of the flags that "program WORDS" gives, in an environment that gives --beta.
std::string first_of(const std::string& words, const std::vector<const char*>& flags) {
  CLI::App app("", "program");
  int a = 0, b = 0;
  bool c = false;
  app.add_option("-a,--alpha", a);
  app.add_option("--beta", b);
  app.add_flag("--gamma", c);
  add_environment_names(app);
  ::setenv("SSA_BETA", "7", 1);
  app.parse(words, false);
  ::unsetenv("SSA_BETA");
  EXPECT_NE(b, 0);
  const char* first = first_given(&app, flags);
  return first == nullptr ? "none" : first;
}

TEST(FirstGiven, FollowsTheCommandLineAndNotTheEnvironment) {
  const std::vector<const char*> all = {"--alpha", "--beta", "--gamma"};
  EXPECT_EQ(first_of("", all), "none");
  EXPECT_EQ(first_of("--gamma -a 3", all), "--gamma");
  EXPECT_EQ(first_of("--gamma -a 3", {"--beta", "--alpha"}), "--alpha");
  EXPECT_EQ(first_of("--beta=8 --gamma", all), "--beta");
  EXPECT_EQ(first_of("--gamma", {"--alpha", "--beta"}), "none");
  EXPECT_EQ(first_given(nullptr, all), nullptr);
}

}  // namespace
}  // namespace ssa
