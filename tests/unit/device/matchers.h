// What tests of Result say.
#pragma once

#include <gmock/gmock.h>

#include <string>

#include <gangway/error.h>

namespace gangway::test {

MATCHER(IsOk, "succeeds") {
  if (arg) return true;
  *result_listener << "it failed: " << arg.error().message << " (errno " << arg.error().code << ")";
  return false;
}

MATCHER_P(FailsWith, code, "fails with errno " + std::to_string(code)) {
  if (arg) {
    *result_listener << "it succeeded";
    return false;
  }
  *result_listener << "it failed: " << arg.error().message << " (errno " << arg.error().code << ")";
  return arg.error().code == code;
}

}  // namespace gangway::test
