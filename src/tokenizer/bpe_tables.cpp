#include "tokenizer/bpe_tables.h"

#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

constexpr uint64_t kOdd =
    0x9E3779B97F4A7C15;  // 2^64 / golden ratio: spreads low bits over high ones

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * kOdd;
  return hash ^ (hash >> 29);
}

uint32_t hash_bytes(std::string_view bytes) {
  uint64_t hash = bytes.size();
  uint64_t word = 0;
  for (; bytes.size() >= sizeof word; bytes.remove_prefix(sizeof word)) {
    std::memcpy(&word, bytes.data(), sizeof word);
    hash = mix(hash, word);
  }
  word = 0;
  std::memcpy(&word, bytes.data(), bytes.size());
  return static_cast<uint32_t>(mix(hash, word) >> 16);
}

size_t table_size(size_t n_expected) {
  return std::bit_ceil(2 * n_expected + 2);
}

}  // namespace

TokenTable::TokenTable(size_t n_expected) : slots_(table_size(n_expected)) {}

size_t TokenTable::slot_of(std::string_view bytes, uint32_t hash) const {
  size_t i = hash & (slots_.size() - 1);
  for (; slots_[i].id >= 0; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.hash == hash && slot.length == bytes.size() &&
        std::memcmp(pool_.data() + slot.offset, bytes.data(), bytes.size()) == 0) {
      break;
    }
  }
  return i;
}

int32_t TokenTable::find(std::string_view bytes) const {
  return slots_[slot_of(bytes, hash_bytes(bytes))].id;
}

void TokenTable::insert(std::string_view bytes, int32_t id) {
  if (2 * (n_taken_ + 1) > slots_.size()) {
    grow();
  }
  const uint32_t hash = hash_bytes(bytes);
  Slot& slot = slots_[slot_of(bytes, hash)];
  if (slot.id < 0) {
    check(pool_.size() + bytes.size() <= UINT32_MAX, "vocabulary: its tokens exceed 4 GiB");
    slot = {hash, id, static_cast<uint32_t>(pool_.size()), static_cast<uint32_t>(bytes.size())};
    pool_ += bytes;
    ++n_taken_;
  }
  slot.id = id;
}

void TokenTable::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
  for (const Slot& slot : old) {
    if (slot.id >= 0) {
      slots_[slot_of({pool_.data() + slot.offset, slot.length}, slot.hash)] = slot;
    }
  }
}

PairTable::PairTable(size_t n_max) : slots_(table_size(n_max)) {}

size_t PairTable::slot_of(uint64_t pair) const {
  size_t i = mix(0, pair) & (slots_.size() - 1);
  while (slots_[i].pair != pair && slots_[i].pair != UINT64_MAX) {
    i = (i + 1) & (slots_.size() - 1);
  }
  return i;
}

Merge PairTable::find(int32_t left, int32_t right) const {
  return slots_[slot_of(uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right))]
      .merge;
}

void PairTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t pair = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  slots_[slot_of(pair)] = {pair, merge};
}

}  // namespace ssa
