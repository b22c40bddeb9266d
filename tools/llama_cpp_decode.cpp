// Decode speed of llama.cpp at several depths, of a context that is read once: llama-bench reads it
// anew for each test.
//
//   llama_cpp_decode MODEL.gguf FLASH_ATTENTION(0|1) THREADS N_NEW DEPTH...
//
// Reads random tokens up to the largest depth and says "read DEPTH SECONDS" at each. Then for each
// line "DEPTH" on standard input, in falling order, it forgets what lies behind that depth, feeds
// N_NEW random tokens one by one, and answers "decode DEPTH TOKENS/S". Built and called by
// tools/compare_llama_cpp.py against a build of llama.cpp.
#include <llama.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr int kBatch = 512;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void feed(llama_context* context, std::vector<llama_token> tokens) {
  if (llama_decode(context,
                   llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))) != 0) {
    std::fprintf(stderr, "llama_decode failed\n");
    std::exit(1);
  }
  llama_synchronize(context);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) {
    std::fprintf(stderr,
                 "usage: llama_cpp_decode MODEL.gguf FLASH_ATTENTION THREADS N_NEW DEPTH...\n");
    return 2;
  }
  const int n_threads = std::atoi(argv[3]), n_new = std::atoi(argv[4]);
  std::vector<int> depths;
  for (int i = 5; i < argc; ++i) {
    depths.push_back(std::atoi(argv[i]));
  }
  std::sort(depths.begin(), depths.end());
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) {
    std::fprintf(stderr, "cannot load %s\n", argv[1]);
    return 1;
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(depths.back() + n_new + kBatch);
  params.n_batch = kBatch;
  params.n_ubatch = kBatch;
  params.n_threads = params.n_threads_batch = n_threads;
  params.flash_attn_type =
      std::atoi(argv[2]) != 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  llama_context* context = llama_init_from_model(model, params);
  if (context == nullptr) {
    std::fprintf(stderr, "no context of %u tokens\n", params.n_ctx);
    return 1;
  }
  std::mt19937 random(1);
  const int n_words = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const auto draw = [&](int n) {
    std::vector<llama_token> tokens;
    for (int i = 0; i < n; ++i) {
      tokens.push_back(static_cast<llama_token>(random() % static_cast<uint32_t>(n_words)));
    }
    return tokens;
  };
  std::printf("system %s\n", llama_print_system_info());
  const double start = now();
  int n_read = 0;
  for (const int depth : depths) {
    while (n_read < depth) {
      const int n = std::min(kBatch, depth - n_read);
      feed(context, draw(n));
      n_read += n;
    }
    std::printf("read %d %.3f\n", depth, now() - start);
    std::fflush(stdout);
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    const int depth = std::atoi(line.c_str());
    llama_memory_seq_rm(llama_get_memory(context), 0, depth, -1);
    if (depth == 0) {
      feed(context, draw(1));  // a sequence begins with something
    }
    const double begin = now();
    for (int i = 0; i < n_new; ++i) {
      feed(context, draw(1));
    }
    std::printf("decode %d %.4f\n", depth, n_new / (now() - begin));
    std::fflush(stdout);
  }
  return 0;
}
