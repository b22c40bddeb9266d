#include "checkpoint/gguf_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"

namespace ssa {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF numbers are read in place");

constexpr uint64_t kDefaultAlignment = 32;
constexpr int kMaxArrayDepth = 8;
constexpr uint32_t kMaxDimensions = 4;
// The least a key (empty name, one-byte value) and a tensor info (empty name, no dimension) can
// take.
constexpr uint64_t kMinKeyBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorInfoBytes = 8 + 4 + 4 + 8;

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Walks the header. Every read is checked against the file's end; `where` says what is being read.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }

  std::span<const std::byte> take(uint64_t n, std::string_view where) {
    check(n <= remaining(),
          file_,
          ": ",
          where,
          " needs ",
          n,
          " bytes at offset ",
          offset_,
          ", but the file ends after ",
          bytes_.size());
    const auto taken = bytes_.subspan(offset_, n);
    offset_ += n;
    return taken;
  }

  template <class T>
  T number(std::string_view where) {
    T value;
    std::memcpy(&value, take(sizeof(T), where).data(), sizeof(T));
    return value;
  }

  std::span<const std::byte> string(std::string_view where) {
    const auto length = number<uint64_t>(where);
    return take(length, where);
  }

  GgufValue value(std::string_view where) {
    GgufValue value;
    value.type = value_type(where);
    if (value.type == GgufValueType::kArray) {
      array(value, where, 1);
    } else if (value.type == GgufValueType::kString) {
      value.bytes = string(where);
    } else {
      value.bytes = take(gguf_value_bytes(value.type), where);
    }
    return value;
  }

 private:
  GgufValueType value_type(std::string_view where) {
    const auto number = this->number<uint32_t>(where);
    check(number <= static_cast<uint32_t>(GgufValueType::kFloat64),
          file_,
          ": ",
          where,
          " has the unknown value type ",
          number);
    return static_cast<GgufValueType>(number);
  }

  /// Reads an array's element type, size and elements; nested arrays are checked and skipped.
  void array(GgufValue& value, std::string_view where, int depth) {
    check(
        depth <= kMaxArrayDepth, file_, ": ", where, " nests arrays deeper than ", kMaxArrayDepth);
    value.element_type = value_type(where);
    value.size = number<uint64_t>(where);
    const uint64_t begin = offset_;
    const uint64_t element_bytes = gguf_value_bytes(value.element_type);
    if (element_bytes > 0) {
      value.bytes = take(checked_mul(value.size, element_bytes, file_.c_str()), where);
      return;
    }
    // Each element takes at least its length field, so a lying size ends at the file's end, not in
    // a long loop.
    for (uint64_t i = 0; i < value.size; ++i) {
      if (value.element_type == GgufValueType::kString) {
        string(where);
      } else {
        GgufValue nested;
        array(nested, where, depth + 1);
      }
    }
    value.bytes = bytes_.subspan(begin, offset_ - begin);
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  uint64_t offset_ = 0;
};

void check_version(uint32_t version, const std::string& file) {
  check((version & 0xFFFFU) != 0,
        file,
        ": a big-endian GGUF file; only little-endian ones can be read");
  check(version == 2 || version == 3,
        file,
        ": GGUF version ",
        version,
        "; versions 2 and 3 can be read");
}

/// What a tensor info says, before it is held against the file.
struct TensorInfo {
  GgufTensor tensor;
  uint64_t offset = 0;  // into the data
  uint64_t size = 0;    // bytes
};

std::vector<int64_t> read_shape(Reader& reader, const std::string& where, const std::string& file) {
  const auto n_dimensions = reader.number<uint32_t>(where);
  check(n_dimensions >= 1 && n_dimensions <= kMaxDimensions,
        file,
        ": ",
        where,
        " has ",
        n_dimensions,
        " dimensions; 1 to ",
        kMaxDimensions,
        " are possible");
  std::vector<int64_t> shape(n_dimensions);
  for (int64_t& size : shape) {
    size = reader.number<int64_t>(where);
    check(size > 0, file, ": ", where, " has a dimension of size ", size);
  }
  std::reverse(shape.begin(), shape.end());
  return shape;
}

TensorInfo read_tensor_info(Reader& reader, const std::string& file) {
  TensorInfo info;
  info.tensor.name = as_text(reader.string("a tensor's name"));
  const std::string where = "tensor " + printable(info.tensor.name);
  info.tensor.shape = read_shape(reader, where, file);
  const auto type_number = reader.number<uint32_t>(where);
  const auto type = find_gguf_type(type_number);
  check(type.has_value(),
        file,
        ": ",
        where,
        " has the type ",
        gguf_type_name(type_number),
        ", which cannot be read; those that can: ",
        readable_gguf_types());
  info.tensor.type = *type;
  info.offset = reader.number<uint64_t>(where);
  const auto row_size = static_cast<uint64_t>(info.tensor.shape.back());
  const uint64_t block_size = gguf_block_size(*type);
  check(row_size % block_size == 0,
        file,
        ": ",
        where,
        " has rows of ",
        row_size,
        " elements; ",
        gguf_type_name(*type),
        " needs a multiple of ",
        block_size);
  const std::string context = file + ": " + where;
  const uint64_t n_blocks = checked_numel(info.tensor.shape, context.c_str()) / block_size;
  info.size = checked_mul(n_blocks, gguf_block_bytes(*type), context.c_str());
  return info;
}

std::map<std::string, GgufValue, std::less<>> read_keys(Reader& reader,
                                                        uint64_t n_keys,
                                                        const std::string& file) {
  check(n_keys <= reader.remaining() / kMinKeyBytes,
        file,
        ": ",
        n_keys,
        " keys cannot fit into ",
        reader.remaining(),
        " bytes");
  std::map<std::string, GgufValue, std::less<>> metadata;
  for (uint64_t i = 0; i < n_keys; ++i) {
    std::string key(as_text(reader.string("a key's name")));
    const GgufValue value = reader.value("key " + printable(key));
    const auto [entry, is_new] = metadata.emplace(std::move(key), value);
    check(is_new, file, ": key ", printable(entry->first), " occurs twice");
  }
  return metadata;
}

std::vector<TensorInfo> read_tensor_infos(Reader& reader,
                                          uint64_t n_tensors,
                                          const std::string& file) {
  check(n_tensors <= reader.remaining() / kMinTensorInfoBytes,
        file,
        ": ",
        n_tensors,
        " tensors cannot fit into ",
        reader.remaining(),
        " bytes");
  std::vector<TensorInfo> infos;
  infos.reserve(n_tensors);
  for (uint64_t i = 0; i < n_tensors; ++i) {
    infos.push_back(read_tensor_info(reader, file));
  }
  return infos;
}

/// Points the tensors at their bytes.
void locate_tensors(std::span<TensorInfo> infos,
                    std::span<const std::byte> data,
                    uint64_t alignment,
                    const std::string& file) {
  for (TensorInfo& info : infos) {
    const std::string where = file + ": tensor " + printable(info.tensor.name);
    check(info.offset % alignment == 0,
          where,
          " has the offset ",
          info.offset,
          ", which is not a multiple of the alignment ",
          alignment);
    const uint64_t end = checked_add(info.offset, info.size, where.c_str());
    check(
        end <= data.size(), where, " ends at byte ", end, " of the data, which has ", data.size());
    info.tensor.bytes = data.subspan(info.offset, info.size);
  }
}

void check_no_overlap(std::span<const TensorInfo> infos, const std::string& file) {
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(infos.size());
  for (const TensorInfo& info : infos) {
    by_offset.push_back(&info);
  }
  std::sort(by_offset.begin(), by_offset.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return a->offset < b->offset;
  });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& before = *by_offset[i - 1];
    const TensorInfo& after = *by_offset[i];
    check(before.offset + before.size <= after.offset,
          file,
          ": tensors ",
          printable(before.tensor.name),
          " and ",
          printable(after.tensor.name),
          " overlap");
  }
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : name_(path.string()), mapping_(path) {
  parse(mapping_->bytes());
}

GgufFile::GgufFile(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)) {
  parse(bytes);
}

void GgufFile::parse(std::span<const std::byte> bytes) {
  Reader reader(bytes, name_);
  const bool has_magic = bytes.size() >= 4 && as_text(bytes.first(4)) == "GGUF";
  check(has_magic, name_, ": not a GGUF file (it does not begin with \"GGUF\")");
  reader.take(4, "the magic");
  check_version(reader.number<uint32_t>("the header"), name_);
  const auto n_tensors = reader.number<uint64_t>("the header");
  const auto n_keys = reader.number<uint64_t>("the header");
  metadata_ = read_keys(reader, n_keys, name_);
  const int64_t alignment = integer("general.alignment").value_or(kDefaultAlignment);
  check(alignment > 0 && std::has_single_bit(static_cast<uint64_t>(alignment)),
        name_,
        ": general.alignment is ",
        alignment,
        ", not a power of two");
  std::vector<TensorInfo> infos = read_tensor_infos(reader, n_tensors, name_);
  const auto mask = static_cast<uint64_t>(alignment) - 1;
  const uint64_t data_begin = checked_add(reader.offset(), mask, name_.c_str()) & ~mask;
  const auto data = bytes.subspan(std::min<uint64_t>(data_begin, bytes.size()));
  locate_tensors(infos, data, mask + 1, name_);
  check_no_overlap(infos, name_);

  tensors_.reserve(infos.size());
  for (TensorInfo& info : infos) {
    tensors_.push_back(std::move(info.tensor));
    const bool is_new = tensor_index_.emplace(tensors_.back().name, tensors_.size() - 1).second;
    check(is_new, name_, ": tensor ", printable(tensors_.back().name), " occurs twice");
  }
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

template <class T>
std::optional<T> GgufFile::decode(std::string_view key,
                                  const char* expected,
                                  std::optional<T> (*decoder)(const GgufValue&)) const {
  const GgufValue* value = find(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::optional<T> decoded = decoder(*value);
  check(decoded.has_value(), name_, ": key '", key, "' is not ", expected);
  return decoded;
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  return decode(key, "an integer below 2^63", decode_integer);
}

std::optional<double> GgufFile::number(std::string_view key) const {
  return decode(key, "a number", decode_number);
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  return decode(key, "a boolean", decode_boolean);
}

std::optional<std::string_view> GgufFile::string(std::string_view key) const {
  return decode(key, "a string", decode_string);
}

std::optional<std::vector<std::string_view>> GgufFile::strings(std::string_view key) const {
  return decode(key, "an array of strings", decode_strings);
}

std::optional<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
  return decode(key, "an array of integers", decode_integers);
}

int64_t GgufFile::required_integer(std::string_view key) const {
  const auto value = integer(key);
  check(value.has_value(), name_, ": key '", key, "' is missing");
  return *value;
}

std::optional<int64_t> GgufFile::token_id(std::string_view key, int64_t n_tokens) const {
  const auto id = integer(key);
  if (!id || *id == -1 || *id == std::numeric_limits<uint32_t>::max()) {
    return std::nullopt;
  }
  check(*id >= 0 && *id < n_tokens,
        name_,
        ": key '",
        key,
        "': token id ",
        *id,
        " of a vocabulary of ",
        n_tokens);
  return id;
}

}  // namespace ssa
