#include "data/row_source.h"

#include <algorithm>

#include "base/error.h"
#include "data/permutation.h"

namespace ssa {
namespace {

/// Shorter pieces of a document at the end of a row teach little: the row stays shorter instead.
constexpr uint64_t kMinPart = 32;

}  // namespace

RowSource::RowSource(const std::filesystem::path& path,
                     const DataOptions& options,
                     const DataVocabulary& vocabulary,
                     uint64_t seed)
    : options_(&options),
      vocabulary_(&vocabulary),
      seed_(seed),
      dataset_(path),
      adds_eos_(options.add_eos && !dataset_.meta().eos_id) {
  check_fit();
  plan_ = std::make_unique<const RowPlan>(
      dataset_.size(),
      [this](uint64_t entry) { return entry_length(entry); },
      row_shape(),
      mix_seeds({seed, 0}));
  summarize();
  check(n_rows() > 0,
        path.string(),
        is_qa()              ? concat(": no row fits seq_len ", options.seq_len)
        : options.whole_rows ? concat(": no document fills a row of seq_len ", options.seq_len)
                             : ": the dataset is empty");
}

bool RowSource::joins() const {
  return options_->boundaries == Boundaries::kJoin && !is_qa();
}

void RowSource::check_fit() const {
  const DatasetMeta& meta = dataset_.meta();
  const std::string name = dataset_.folder().string();
  check(vocabulary_->tokenizer.empty() || vocabulary_->tokenizer == meta.tokenizer,
        name,
        " was made with another tokenizer: ",
        meta.tokenizer,
        ", and the model's is ",
        vocabulary_->tokenizer);
  check(!adds_eos_ || vocabulary_->eos_id.has_value(),
        name,
        " holds no EOS and the model names none: set add_eos = false");
  check(!joins() || adds_eos_ || meta.eos_id.has_value(),
        name,
        " holds no EOS: joined documents need add_eos = true");
  check(!options_->gists || !options_->word_aware ||
            std::cmp_greater_equal(vocabulary_->boundaries.size(), meta.vocab_size),
        name,
        ": word-aware chunks need the tokenizer's word boundaries of ",
        meta.vocab_size,
        " tokens, ",
        vocabulary_->boundaries.size(),
        " are known");
}

RowShape RowSource::row_shape() const {
  const uint64_t bos = options_->add_bos ? 1 : 0;
  RowShape shape;
  shape.room = static_cast<uint64_t>(options_->seq_len) - (joins() ? bos : 0);
  shape.overhead = joins() ? 0 : bos;
  shape.cut = !is_qa();
  shape.whole_rows_first = !is_qa() && !joins();
  shape.packs_rest = !options_->whole_rows || !shape.whole_rows_first;
  shape.min_part = joins() ? 1 : kMinPart;
  return shape;
}

void RowSource::summarize() {
  summary_.path = dataset_.folder();
  summary_.n_rows = n_rows();
  summary_.n_tokens = is_qa() ? 0 : dataset_.meta().n_tokens;
  for (uint64_t entry = 0; is_qa() && entry < dataset_.size(); ++entry) {
    const QaFit row = fit(entry);
    if (!row.is_usable()) {
      ++summary_.n_qa_rows_left_out;
      continue;
    }
    summary_.n_tokens += row.n_tokens + dataset_.meta().header.size();
    summary_.n_qa_rows_cut += row.n_lost > 0 ? 1 : 0;
    summary_.n_documents_lost += row.n_lost;
  }
}

QaFit RowSource::fit(uint64_t entry) const {
  const uint64_t fixed =
      dataset_.meta().header.size() + (adds_eos_ ? 1 : 0) + (options_->add_bos ? 1 : 0);
  const auto seq_len = static_cast<uint64_t>(options_->seq_len);
  return fit_qa_row(dataset_.qa_lengths(entry), seq_len - std::min(seq_len, fixed));
}

uint64_t RowSource::entry_length(uint64_t entry) const {
  const uint64_t n_tokens = is_qa() ? fit(entry).n_tokens : dataset_.n_tokens(entry);
  const uint64_t header = is_qa() ? dataset_.meta().header.size() : 0;
  return n_tokens == 0 ? 0 : n_tokens + header + (adds_eos_ ? 1 : 0);
}

std::vector<RawSequence> RowSource::draw(uint64_t draw,
                                         uint64_t min_prefix,
                                         RowRandom& random) const {
  const uint64_t pass = draw / n_rows();
  const Permutation order(n_rows(), mix_seeds({seed_, 1, pass}));
  std::vector<RawSequence> sequences;
  std::vector<int64_t> joined = begin_tokens();
  for (const EntryPart& part : plan_->parts(order(draw % n_rows()))) {
    if (is_qa()) {
      sequences.push_back(read_qa(part.entry));
    } else if (joins()) {
      append_text(part, joined);
    } else {
      std::vector<int64_t> ids = begin_tokens();
      append_text(part, ids);
      sequences.push_back(split_text(std::move(ids), min_prefix, random));
    }
  }
  if (joins()) {
    sequences.push_back(split_text(std::move(joined), min_prefix, random));
  }
  return sequences;
}

std::vector<int64_t> RowSource::begin_tokens() const {
  return options_->add_bos ? std::vector{*vocabulary_->bos_id} : std::vector<int64_t>{};
}

void RowSource::append_text(const EntryPart& part, std::vector<int64_t>& ids) const {
  const uint64_t stored_end = std::min(part.end, dataset_.n_tokens(part.entry));
  const std::vector<int64_t> stored =
      dataset_.tokens(part.entry, std::min(part.begin, stored_end), stored_end);
  ids.insert(ids.end(), stored.begin(), stored.end());
  if (part.end > stored_end) {
    ids.push_back(*vocabulary_->eos_id);
  }
}

RawSequence RowSource::split_text(std::vector<int64_t> ids,
                                  uint64_t min_prefix,
                                  RowRandom& random) const {
  const auto fewest = static_cast<uint64_t>(options_->suffix_min);
  const auto most = static_cast<uint64_t>(options_->suffix_max);
  uint64_t n_prefix = 0;
  if (ids.size() >= min_prefix + fewest) {
    const uint64_t limit = std::min<uint64_t>(most, ids.size() - min_prefix);
    n_prefix = ids.size() - (fewest + random.below(limit - fewest + 1));
  }
  const auto split = ids.begin() + static_cast<std::ptrdiff_t>(n_prefix);
  RawSequence raw;
  raw.pieces.emplace_back(ids.begin(), split);
  raw.suffix.assign(split, ids.end());
  raw.first_target = options_->loss_on == LossOn::kAll ? 0 : static_cast<int64_t>(n_prefix);
  return raw;
}

RawSequence RowSource::read_qa(uint64_t entry) const {
  const QaFit kept = fit(entry);
  QaRow row = dataset_.qa_row(entry);
  RawSequence raw;
  std::vector<int64_t> header = begin_tokens();
  header.insert(header.end(), dataset_.meta().header.begin(), dataset_.meta().header.end());
  if (!header.empty()) {
    raw.pieces.push_back(std::move(header));
  }
  for (size_t i = 0; i < row.documents.size(); ++i) {
    if (kept.kept[i] && !row.documents[i].empty()) {
      raw.pieces.push_back(std::move(row.documents[i]));
    }
  }
  if (adds_eos_) {
    row.answer.push_back(*vocabulary_->eos_id);
  }
  size_t before = options_->loss_on == LossOn::kAnswer ? row.question.size() : 0;
  for (const std::vector<int64_t>& piece : raw.pieces) {
    before += piece.size();
  }
  raw.first_target = options_->loss_on == LossOn::kAll ? 0 : static_cast<int64_t>(before);
  raw.suffix = std::move(row.question);
  raw.suffix.insert(raw.suffix.end(), row.answer.begin(), row.answer.end());
  return raw;
}

}  // namespace ssa
