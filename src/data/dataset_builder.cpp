#include "data/dataset_builder.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "base/error.h"
#include "data/dataset_writer.h"
#include "data/record_tokenizer.h"
#include "tokenizer/tokenizer_fingerprint.h"

namespace ssa {
namespace {

/// Text that is tokenised at once: enough for threads to start for, little enough to hold.
constexpr uint64_t kBatchBytes = uint64_t{8} << 20;

struct Tokenized {
  TokenizedRecord record;
  std::exception_ptr error;
};

Tokenized tokenize_one(const RecordTokenizer& tokenizer, const InputRecord& record) {
  Tokenized result;
  try {
    result.record = tokenizer.tokenize(record);
  } catch (...) {
    result.error = std::current_exception();
  }
  return result;
}

/// Results in the records' order, whichever thread is done first.
std::vector<Tokenized> tokenize_batch(const RecordTokenizer& tokenizer,
                                      const std::vector<InputRecord>& records,
                                      size_t n_threads) {
  std::vector<Tokenized> results(records.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < records.size(); i = next++) {
      results[i] = tokenize_one(tokenizer, records[i]);
    }
  };
  std::vector<std::jthread> threads;
  for (size_t i = 1; i < std::min(n_threads, records.size()); ++i) {
    threads.emplace_back(work);
  }
  work();
  threads.clear();  // joins
  return results;
}

std::vector<InputRecord> take_batch(InputRecords& input) {
  std::vector<InputRecord> records;
  for (uint64_t bytes = 0; bytes < kBatchBytes;) {
    std::optional<InputRecord> record = input.next();
    if (!record) {
      break;
    }
    bytes += record->text.size() + 1;
    records.push_back(std::move(*record));
  }
  return records;
}

void add_entry(const Tokenized& result, DatasetWriter& writer, BuildReport& report) {
  if (result.error) {
    std::rethrow_exception(result.error);
  }
  report.n_mended += result.record.was_mended;
  if (writer.meta().kind == DatasetKind::kQa) {
    writer.add_qa_row(result.record.qa);
  } else if (result.record.document.empty()) {
    ++report.n_blank;
  } else {
    writer.add_document(result.record.document);
  }
}

DatasetMeta describe_dataset(const Tokenizer& tokenizer,
                             const BuildOptions& options,
                             const RecordTokenizer& records) {
  DatasetMeta meta;
  meta.kind = options.kind;
  meta.tokenizer = tokenizer_fingerprint(tokenizer);
  meta.vocab_size = n_text_tokens(tokenizer);
  meta.eos_id = options.eos_id;
  if (options.kind == DatasetKind::kQa) {
    meta.header = records.header();
  }
  for (const std::filesystem::path& input : options.inputs) {
    meta.sources.push_back(input.filename().string());
  }
  return meta;
}

}  // namespace

BuildReport build_dataset(const Tokenizer& tokenizer,
                          const BuildOptions& options,
                          const std::filesystem::path& folder) {
  const RecordTokenizer records(tokenizer, options);
  InputRecords input(options.inputs, options.separator);
  DatasetWriter writer(folder, describe_dataset(tokenizer, options, records));
  const size_t n_threads = options.threads > 0 ? static_cast<size_t>(options.threads)
                                               : std::max(1U, std::thread::hardware_concurrency());
  BuildReport report;
  for (auto batch = take_batch(input); !batch.empty(); batch = take_batch(input)) {
    for (const Tokenized& result : tokenize_batch(records, batch, n_threads)) {
      add_entry(result, writer, report);
    }
    if (options.progress) {
      options.progress(static_cast<int64_t>(batch.back().n_read),
                       static_cast<int64_t>(input.total_bytes()));
    }
  }
  writer.commit();
  report.meta = writer.meta();
  return report;
}

}  // namespace ssa
