#include "tokenizer/byte_alphabet.h"

#include <array>

#include "base/text.h"

namespace ssa {
namespace {

constexpr size_t kAlphabetEnd = 0x100 + 68;  // behind the last character

struct ByteAlphabet {
  std::array<char32_t, 256> character{};     // of a byte
  std::array<int16_t, kAlphabetEnd> byte{};  // of a character; -1: outside the alphabet
};

constexpr bool stands_for_itself(char32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr ByteAlphabet make_alphabet() {
  ByteAlphabet alphabet;
  alphabet.byte.fill(-1);
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const char32_t character = stands_for_itself(byte) ? byte : next++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr ByteAlphabet kAlphabet = make_alphabet();

}  // namespace

std::string bytes_to_token(std::string_view bytes) {
  std::string token;
  for (const char byte : bytes) {
    append_utf8(token, kAlphabet.character[static_cast<unsigned char>(byte)]);
  }
  return token;
}

std::optional<std::string> token_to_bytes(std::string_view token) {
  std::string bytes;
  for (size_t i = 0; i < token.size();) {
    const char32_t character = next_code_point(token, i);
    if (character >= kAlphabetEnd || kAlphabet.byte[character] < 0) {
      return std::nullopt;
    }
    bytes += static_cast<char>(kAlphabet.byte[character]);
  }
  return bytes;
}

}  // namespace ssa
