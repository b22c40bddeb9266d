#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/encoder.h"

namespace ssa {
namespace {

/// One id's token.
struct Entry {
  bool exists = false;
  bool special = false;
  bool skipped = false;  // by decode with skip_special
  std::string token;     // as the vocabulary writes it
  std::string bytes;     // as decode writes it
};

std::vector<Entry> make_entries(const BpeModel& model, const AddedTokens& added) {
  size_t n = model.tokens().size();
  if (!added.by_id().empty()) {
    n = std::max(n, static_cast<size_t>(added.by_id().rbegin()->first) + 1);
  }
  std::vector<Entry> entries(n);
  const auto set = [&](size_t id, const std::string& token, const std::string& written) {
    entries[id] = {true,
                   false,
                   added.is_special_content(written),
                   token,
                   token_to_bytes(written).value_or(written)};
  };
  for (size_t id = 0; id < model.tokens().size(); ++id) {
    if (const auto& token = model.tokens()[id]) {
      set(id, *token, *token);
    }
  }
  for (const auto& [id, token] : added.by_id()) {
    set(static_cast<size_t>(id), token.content, token.matched);
    entries[static_cast<size_t>(id)].special = token.special;
  }
  return entries;
}

/// ByteLevel, or a Sequence of just that.
void check_decoder(const Json& json) {
  const Json* decoder = find_key(json, "decoder");
  check(decoder != nullptr, "decoder: missing");
  while (get_or<std::string>(*decoder, "type", "") == "Sequence") {
    const Json* parts = find_key(*decoder, "decoders");
    check(parts != nullptr && parts->is_array() && parts->size() == 1,
          "decoder: Sequence: expected one decoder");
    decoder = &parts->front();
  }
  const std::string type = get_or<std::string>(*decoder, "type", "");
  check(type == "ByteLevel",
        "decoder: type '",
        type,
        "' is not supported (known: ByteLevel, Sequence)");
}

void check_utf8(std::string_view text) {
  if (is_valid_utf8(text)) {
    return;
  }
  const std::string mended = replace_invalid_utf8(text);
  const auto broken = std::mismatch(text.begin(), text.end(), mended.begin(), mended.end()).first;
  // U+FFFD may begin with the same bytes as the broken character it replaced.
  const std::string_view same = text.substr(0, static_cast<size_t>(broken - text.begin()));
  fail("text is not UTF-8 at byte ", complete_utf8_prefix(same));
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(const Json& json) : encoder(json) {
    check_decoder(json);
    entries = make_entries(encoder.model(), encoder.added());
  }

  const Entry* find(int64_t id) const {
    const bool known = id >= 0 && id < static_cast<int64_t>(entries.size()) &&
                       entries[static_cast<size_t>(id)].exists;
    return known ? &entries[static_cast<size_t>(id)] : nullptr;
  }

  Encoder encoder;
  std::vector<Entry> entries;  // by id
};

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(const Json& tokenizer_json) {
  check(tokenizer_json.is_object(), "expected an object");
  return Tokenizer(std::make_unique<const Impl>(tokenizer_json));
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  const bool is_folder = std::filesystem::is_directory(path);
  const std::filesystem::path file = is_folder ? path / "tokenizer.json" : path;
  const Json json = read_json_file(file);
  try {
    return from_json(json);
  } catch (const Error& error) {
    fail(file.string(), ": ", error.what());
  }
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  check_utf8(text);
  std::vector<TextRange> plain;
  if (!options.parse_special) {
    plain.push_back({0, text.size()});
  }
  return impl_->encoder.encode(text, plain, options.add_special);
}

std::vector<int64_t> Tokenizer::encode(std::span<const TextSpan> spans,
                                       const EncodeOptions& options) const {
  std::string text;
  std::vector<TextRange> plain;
  for (const TextSpan& span : spans) {
    if ((span.is_input || !options.parse_special) && !span.text.empty()) {
      plain.push_back({text.size(), text.size() + span.text.size()});
    }
    text += span.text;
  }
  check_utf8(text);
  return impl_->encoder.encode(text, plain, options.add_special);
}

std::string Tokenizer::decode(std::span<const int64_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int64_t id : ids) {
    const Entry* entry = impl_->find(id);
    if (entry != nullptr && !(skip_special && entry->skipped)) {
      bytes += entry->bytes;
    }
  }
  return replace_invalid_utf8(bytes);
}

std::string Tokenizer::token_bytes(int64_t id) const {
  const Entry* entry = impl_->find(id);
  return entry == nullptr ? std::string() : entry->bytes;
}

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  if (!is_valid_utf8(token)) {
    return std::nullopt;
  }
  const std::optional<int64_t> added = impl_->encoder.added().token_to_id(token);
  return added ? added : impl_->encoder.model().token_to_id(token);
}

std::string Tokenizer::id_to_token(int64_t id) const {
  const Entry* entry = impl_->find(id);
  check(entry != nullptr, "token id ", id, " is not in the vocabulary (", size(), " tokens)");
  return entry->token;
}

bool Tokenizer::is_special(int64_t id) const {
  const Entry* entry = impl_->find(id);
  return entry != nullptr && entry->special;
}

int64_t Tokenizer::size() const {
  return static_cast<int64_t>(impl_->entries.size());
}

}  // namespace ssa
