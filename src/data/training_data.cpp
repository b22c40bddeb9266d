#include "data/training_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "data/lay_sequence.h"
#include "data/row_random.h"
#include "data/row_source.h"
#include "data/source_schedule.h"
#include "tokenizer/tokenizer_fingerprint.h"

namespace ssa {
namespace {

// What the seed is mixed with, so that draws for one purpose do not repeat those for another.
enum Purpose : uint64_t { kSchedule, kSource, kRow };

void check_weight(double weight, const std::string& what) {
  check(std::isfinite(weight) && weight > 0, what, ": weight ", weight, " is not positive");
}

void check_sources(const DataOptions& options) {
  check(!options.sources.empty(), "no datasets to draw rows from");
  check(options.sources.size() <= SourceSchedule::kRowsPerRound,
        options.sources.size(),
        " datasets, at most ",
        SourceSchedule::kRowsPerRound,
        " are possible");
  for (const DataSource& source : options.sources) {
    check_weight(source.weight, source.path.string());
  }
}

void check_chunks(const DataOptions& options, const DataVocabulary& vocabulary) {
  check(options.sink >= 0, "sink ", options.sink, " is negative");
  check(!options.chunks.empty(), "no chunk settings to draw from");
  for (const ChunkChoice& choice : options.chunks) {
    check_chunk_sizes(choice.chunk, "chunk setting");
    check_weight(choice.weight, "chunk setting " + format_chunk_sizes(choice.chunk));
    if (options.gists) {
      GistLayout(choice.chunk, vocabulary.gist_ids);  // are there ids for all levels?
    }
  }
}

void check_lengths(const DataOptions& options) {
  check(options.suffix_min >= 1 && options.suffix_min <= options.suffix_max,
        "suffix length from ",
        options.suffix_min,
        " to ",
        options.suffix_max,
        ": expected 1 <= suffix_min <= suffix_max");
  for (const ChunkChoice& choice : options.chunks) {
    const int64_t bos = options.add_bos ? 1 : 0;
    const int64_t needed = options.gists
                               ? options.suffix_min + std::max(options.sink, bos) + choice.chunk[0]
                               : 2 + bos;
    check(options.seq_len >= needed,
          "seq_len ",
          options.seq_len,
          " is too short: chunk setting ",
          format_chunk_sizes(choice.chunk),
          " with a suffix of ",
          options.suffix_min,
          " and ",
          options.sink,
          " sinks needs ",
          needed);
  }
}

void check_options(const DataOptions& options, const DataVocabulary& vocabulary) {
  check_sources(options);
  check_chunks(options, vocabulary);
  check_lengths(options);
  check(!options.add_bos || vocabulary.bos_id.has_value(),
        "add_bos is set, and the model names no BOS");
}

std::vector<double> source_weights(const DataOptions& options) {
  std::vector<double> weights;
  for (const DataSource& source : options.sources) {
    weights.push_back(source.weight);
  }
  return weights;
}

const ChunkSizes& draw_chunk(const std::vector<ChunkChoice>& choices, RowRandom& random) {
  double total = 0;
  for (const ChunkChoice& choice : choices) {
    total += choice.weight;
  }
  double left = random.unit() * total;
  for (const ChunkChoice& choice : choices) {
    left -= choice.weight;
    if (left < 0) {
      return choice.chunk;
    }
  }
  return choices.back().chunk;  // rounding
}

}  // namespace

LossOn parse_loss_on(const std::string& name) {
  if (name == "suffix") {
    return LossOn::kSuffix;
  }
  check(
      name == "all" || name == "answer", "loss_on '", name, "' is not one of all, suffix, answer");
  return name == "all" ? LossOn::kAll : LossOn::kAnswer;
}

Boundaries parse_boundaries(const std::string& name) {
  check(
      name == "separate" || name == "join", "boundaries '", name, "' is not one of separate, join");
  return name == "join" ? Boundaries::kJoin : Boundaries::kSeparate;
}

DataVocabulary make_data_vocabulary(const Tokenizer& tokenizer,
                                    std::vector<int64_t> gist_ids,
                                    std::optional<int64_t> bos_id,
                                    std::optional<int64_t> eos_id) {
  const auto decode_alone = [&](int64_t id) { return tokenizer.decode({&id, 1}); };
  return {tokenizer_fingerprint(tokenizer),
          std::move(gist_ids),
          find_word_boundaries(tokenizer.size(), decode_alone),
          bos_id,
          eos_id};
}

struct TrainingData::Impl {
  Impl(DataOptions given_options, DataVocabulary given_vocabulary)
      : options(std::move(given_options)),
        vocabulary(std::move(given_vocabulary)),
        schedule((check_options(options, vocabulary), source_weights(options)),
                 mix_seeds({options.seed, kSchedule})) {
    for (size_t i = 0; i < options.sources.size(); ++i) {
      sources.push_back(std::make_unique<const RowSource>(
          options.sources[i].path, options, vocabulary, mix_seeds({options.seed, kSource, i})));
      summaries.push_back(sources.back()->summary());
      summaries.back().share = schedule.share(i);
    }
  }

  SequenceStyle draw_style(RowRandom& random) const {
    SequenceStyle style;
    style.settings.token_ids = vocabulary.gist_ids;
    style.settings.chunk = draw_chunk(options.chunks, random);
    style.settings.sink = options.sink;
    style.settings.word_aware = options.word_aware;
    style.boundaries = options.word_aware ? &vocabulary.boundaries : nullptr;
    style.bos_id = vocabulary.bos_id;
    style.gists = options.gists;
    return style;
  }

  const DataOptions options;
  const DataVocabulary vocabulary;
  const SourceSchedule schedule;
  std::vector<std::unique_ptr<const RowSource>> sources;
  std::vector<SourceSummary> summaries;
};

TrainingData::TrainingData(DataOptions options, DataVocabulary vocabulary)
    : impl_(std::make_unique<const Impl>(std::move(options), std::move(vocabulary))) {}
TrainingData::~TrainingData() = default;
TrainingData::TrainingData(TrainingData&&) noexcept = default;
TrainingData& TrainingData::operator=(TrainingData&&) noexcept = default;

TrainingRow TrainingData::row(uint64_t index) const {
  RowRandom random(mix_seeds({impl_->options.seed, kRow, index}));
  const SequenceStyle style = impl_->draw_style(random);
  const auto min_prefix = static_cast<uint64_t>(style.settings.sink + style.settings.chunk[0]);
  const SourceSchedule::Turn turn = impl_->schedule.turn(index);
  TrainingRow row;
  for (const RawSequence& raw : impl_->sources[turn.source]->draw(turn.draw, min_prefix, random)) {
    row.sequences.push_back(lay_sequence(raw, style));
  }
  return row;
}

uint64_t TrainingData::rows_per_epoch() const {
  uint64_t n_rows = 0;
  for (const SourceSummary& source : impl_->summaries) {
    n_rows += source.n_rows;
  }
  return n_rows;
}

double TrainingData::passes(size_t source, uint64_t n_rows) const {
  return static_cast<double>(impl_->schedule.n_draws(source, n_rows)) /
         static_cast<double>(impl_->sources[source]->n_rows());
}

const std::vector<SourceSummary>& TrainingData::sources() const {
  return impl_->summaries;
}

std::vector<std::string> TrainingData::warnings() const {
  std::vector<std::string> lines;
  for (const SourceSummary& source : impl_->summaries) {
    if (source.n_qa_rows_cut > 0) {
      lines.push_back(concat(source.path.string(),
                             ": ",
                             source.n_qa_rows_cut,
                             " question-answer rows lose ",
                             source.n_documents_lost,
                             " documents to fit seq_len ",
                             impl_->options.seq_len));
    }
    if (source.n_qa_rows_left_out > 0) {
      lines.push_back(concat(source.path.string(),
                             ": ",
                             source.n_qa_rows_left_out,
                             " question-answer rows are left out: question and answer with one "
                             "document are longer than seq_len ",
                             impl_->options.seq_len));
    }
  }
  return lines;
}

const DataOptions& TrainingData::options() const {
  return impl_->options;
}

}  // namespace ssa
