// Expecting ssa::Error by what it says.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace ssa {

/// Fails the test unless `work` throws Error whose message holds `part`.
template <class Work>
void expect_error(const Work& work, const std::string& part) {
  try {
    work();
    ADD_FAILURE() << "no error; expected one with: " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos)
        << "error: " << error.what() << "\nexpected part: " << part;
  }
}

}  // namespace ssa
