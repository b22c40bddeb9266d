#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/json.h"

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

namespace ssa {
namespace {

/// A name from a file, fit for one line of a message.
std::string quoted(const std::string& name) {
  const std::string text = dump_json(Json(name));
  return text.size() <= 160 ? text : text.substr(0, 157) + "...";
}

/// Builds the tables straight from the parser's events: a document tree would hide repeated names,
/// and cost many times the header's size.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(SafetensorsHeader& header, std::string_view name) : header_(header), file_(name) {}

  bool null() override {
    // {"__metadata__": null} means that there is none.
    return (depth_ == 1 && in_metadata_) || value("null");
  }
  bool boolean(bool) override { return value("true or false"); }
  bool number_integer(number_integer_t) override { return value("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a fraction"); }
  bool binary(binary_t&) override { return value("binary data"); }
  bool number_unsigned(number_unsigned_t number) override;
  bool string(string_t& text) override;
  bool start_object(size_t) override;
  bool end_object() override;
  bool start_array(size_t) override;
  bool end_array() override;
  bool key(string_t& text) override;
  bool parse_error(size_t position,
                   const std::string&,
                   const nlohmann::detail::exception&) override {
    fail(file_, ": broken JSON in the header at byte ", position);
  }

 private:
  enum class Field { kNone, kDType, kShape, kOffsets, kOther };
  enum Seen : unsigned { kSawDType = 1, kSawShape = 2, kSawOffsets = 4 };

  /// Where the next value belongs, for messages.
  std::string place() const;
  /// A value of a kind that only fields we do not know may have.
  bool value(const char* found);
  void begin_field(const std::string& text);
  void end_tensor();

  SafetensorsHeader& header_;
  std::string_view file_;
  int depth_ = 0;  // open objects and arrays
  bool in_metadata_ = false;
  bool saw_metadata_ = false;
  std::string name_;  // of the tensor, or the key in __metadata__
  SafetensorsEntry entry_;
  std::vector<uint64_t> offsets_;
  Field field_ = Field::kNone;
  unsigned seen_ = 0;
};

std::string HeaderReader::place() const {
  if (depth_ == 0) return "the header";
  if (in_metadata_) return depth_ == 1 ? "__metadata__" : "__metadata__ " + quoted(name_);
  const std::string tensor = "tensor " + quoted(name_);
  switch (field_) {
    case Field::kDType:
      return tensor + ": dtype";
    case Field::kShape:
      return tensor + ": shape";
    case Field::kOffsets:
      return tensor + ": data_offsets";
    default:
      return tensor;
  }
}

bool HeaderReader::value(const char* found) {
  if (field_ == Field::kOther) {
    return true;
  }
  const char* expected = "an object";
  if (in_metadata_ && depth_ == 2) expected = "a string";
  if (field_ == Field::kDType) expected = "a string";
  if (field_ == Field::kShape || field_ == Field::kOffsets) {
    expected = depth_ == 2 ? "a list" : "a whole number from 0 on";
  }
  fail(file_, ": ", place(), ": expected ", expected, ", found ", found);
}

bool HeaderReader::number_unsigned(number_unsigned_t number) {
  if (depth_ == 3 && field_ == Field::kShape) {
    check(number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()),
          file_,
          ": ",
          place(),
          ": size ",
          number,
          " is too large");
    entry_.shape.push_back(static_cast<int64_t>(number));
    return true;
  }
  if (depth_ == 3 && field_ == Field::kOffsets) {
    check(offsets_.size() < 2, file_, ": ", place(), ": expected 2 numbers, found more");
    offsets_.push_back(number);
    return true;
  }
  return value("a number");
}

bool HeaderReader::string(string_t& text) {
  if (in_metadata_ && depth_ == 2) {
    header_.metadata[name_] = text;
    return true;
  }
  if (depth_ == 2 && field_ == Field::kDType) {
    try {
      entry_.dtype = parse_dtype(text);
    } catch (const Error& error) {
      fail(file_, ": tensor ", quoted(name_), ": ", error.what());
    }
    return true;
  }
  return value("a string");
}

bool HeaderReader::start_object(size_t) {
  if (depth_ >= 2) {
    value("an object");
  }
  ++depth_;
  return true;
}

bool HeaderReader::end_object() {
  if (--depth_ == 1) {
    if (!in_metadata_) {
      end_tensor();
    }
    in_metadata_ = false;
  }
  return true;
}

bool HeaderReader::start_array(size_t) {
  const bool is_list = depth_ == 2 && (field_ == Field::kShape || field_ == Field::kOffsets);
  if (!is_list) {
    value("a list");
  }
  ++depth_;
  return true;
}

bool HeaderReader::end_array() {
  --depth_;
  return true;
}

bool HeaderReader::key(string_t& text) {
  if (depth_ == 1) {
    in_metadata_ = text == "__metadata__";
    check(
        !in_metadata_ || !std::exchange(saw_metadata_, true), file_, ": __metadata__ occurs twice");
    name_ = text;
    entry_ = {};
    offsets_.clear();
    field_ = Field::kNone;
    seen_ = 0;
  } else if (depth_ == 2 && in_metadata_) {
    name_ = text;
  } else if (depth_ == 2) {
    begin_field(text);
  }
  return true;
}

void HeaderReader::begin_field(const std::string& text) {
  unsigned bit = 0;
  field_ = Field::kOther;
  if (text == "dtype") {
    field_ = Field::kDType;
    bit = kSawDType;
  } else if (text == "shape") {
    field_ = Field::kShape;
    bit = kSawShape;
  } else if (text == "data_offsets") {
    field_ = Field::kOffsets;
    bit = kSawOffsets;
  }
  check((seen_ & bit) == 0, file_, ": ", place(), " occurs twice");
  seen_ |= bit;
}

void HeaderReader::end_tensor() {
  field_ = Field::kNone;
  check((seen_ & kSawDType) != 0, file_, ": ", place(), ": dtype is missing");
  check((seen_ & kSawShape) != 0, file_, ": ", place(), ": shape is missing");
  check((seen_ & kSawOffsets) != 0, file_, ": ", place(), ": data_offsets is missing");
  check(offsets_.size() == 2,
        file_,
        ": ",
        place(),
        ": data_offsets: expected 2 numbers, found ",
        offsets_.size());
  entry_.begin = offsets_[0];
  entry_.end = offsets_[1];
  const bool is_new = header_.tensors.emplace(name_, std::move(entry_)).second;
  check(is_new, file_, ": ", place(), " occurs twice");
}

/// Throws unless the entry's range runs forward and holds exactly its elements.
void check_entry(const std::string& name, const SafetensorsEntry& entry, std::string_view file) {
  const std::string what = concat(file, ": tensor ", quoted(name));
  check(entry.begin <= entry.end,
        what,
        ": data_offsets [",
        entry.begin,
        ", ",
        entry.end,
        ") run backward");
  const uint64_t expected =
      checked_mul(checked_numel(entry.shape, what.c_str()), dtype_size(entry.dtype), what.c_str());
  check(entry.end - entry.begin == expected,
        what,
        ": dtype ",
        dtype_name(entry.dtype),
        " and shape need ",
        expected,
        " bytes, data_offsets [",
        entry.begin,
        ", ",
        entry.end,
        ") hold ",
        entry.end - entry.begin);
}

/// Throws unless the entries cover [0, end) without hole or overlap, inside `available` bytes.
/// Returns end.
uint64_t check_coverage(const SafetensorsHeader& header,
                        uint64_t available,
                        std::string_view file) {
  using Item = std::pair<const std::string, SafetensorsEntry>;
  std::vector<const Item*> items;
  items.reserve(header.tensors.size());
  for (const Item& item : header.tensors) {
    items.push_back(&item);
  }
  std::sort(items.begin(), items.end(), [](const Item* a, const Item* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  for (const Item* item : items) {
    const auto& [name, entry] = *item;
    const char* kind =
        entry.begin < covered ? "overlaps the tensor before it" : "leaves a hole before it";
    check(entry.begin == covered,
          file,
          ": tensor ",
          quoted(name),
          ": data_offsets [",
          entry.begin,
          ", ",
          entry.end,
          ") ",
          kind,
          ", expected to begin at ",
          covered);
    check(entry.end <= available,
          file,
          ": tensor ",
          quoted(name),
          ": data_offsets [",
          entry.begin,
          ", ",
          entry.end,
          ") reach beyond the file's end: its data has ",
          available,
          " bytes (truncated?)");
    covered = entry.end;
  }
  return covered;
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> file, std::string_view name) {
  check(file.size() >= 8,
        name,
        ": not a safetensors file: ",
        file.size(),
        " bytes, expected 8 or more");
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  check(length <= kMaxSafetensorsHeader,
        name,
        ": not a safetensors file: header of ",
        length,
        " bytes, the limit is ",
        kMaxSafetensorsHeader);
  check(length <= file.size() - 8,
        name,
        ": header of ",
        length,
        " bytes, but only ",
        file.size() - 8,
        " follow (truncated?)");
  const auto* text = reinterpret_cast<const char*>(file.data() + 8);
  const std::string_view json(text, length);
  // The parser would take a zero byte for the end, and skip a byte order mark.
  check(json.find('\0') == std::string_view::npos, name, ": zero byte in the header");
  const size_t start = json.find_first_not_of(" \t\r\n");
  check(start != std::string_view::npos && json[start] == '{',
        name,
        ": the header is not a JSON object");

  SafetensorsHeader header;
  header.data_begin = 8 + length;
  HeaderReader reader(header, name);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  for (const auto& [tensor, entry] : header.tensors) {
    check_entry(tensor, entry, name);
  }
  header.data_size = check_coverage(header, file.size() - header.data_begin, name);
  return header;
}

}  // namespace ssa
