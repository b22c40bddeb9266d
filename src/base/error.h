// Errors that a caller or a file causes. Everything else that can go wrong is a bug (assert,
// TORCH_INTERNAL_ASSERT).
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ssa {

/// What the user, a file or the machine got wrong: one line that names the value and the limit. The
/// program prints it and exits with 1; the library never prints or exits.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A wrong flag, key or combination of them; the program exits with 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// The parts, printed one behind the other.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws Error with the parts as its message.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(concat(parts...));
}

/// Throws Error with the parts as its message unless `ok`. The parts are formatted only on failure.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) [[unlikely]] {
    fail(parts...);
  }
}

}  // namespace ssa
