// Errors of the public API: one type, composed into std::expected.
//
// An Error carries what a peer needs (an errno), what a reader of the contract needs (the clause, where one
// is violated) and what a person needs (one sentence: what failed, on what, why, what to do).
// No exception crosses the public API.
//
// Thread-safety: values; no shared state.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace gangway {

struct Error {
  int code = EIO;           // errno as it travels in a reply; never 0
  std::string message;      // a sentence without a final full stop
  std::string_view clause;  // identifier in the contract ("DAT-VALIDATE"), or empty; points to static storage
};

template <class T>
using Result = std::expected<T, Error>;

// return fail(EINVAL, "region 2: ...", "WIR-FRAME");
inline std::unexpected<Error> fail(int code, std::string message, std::string_view clause = {}) {
  return std::unexpected(Error{code, std::move(message), clause});
}

// Passes an error on, with what was being done in front: "load: section 'queues': checksum differs".
inline std::unexpected<Error> fail_within(std::string_view doing, Error error) {
  error.message = std::string(doing) + ": " + error.message;
  return std::unexpected(std::move(error));
}

// "open /x: No such file or directory" with errno as the code.
[[nodiscard]] std::unexpected<Error> fail_errno(std::string_view doing, int error_number = errno);

}  // namespace gangway
