#include <gangway/error.h>

#include <cstring>

#include <fmt/format.h>

namespace gangway {

std::unexpected<Error> fail_errno(std::string_view doing, int error_number) {
  return fail(error_number, fmt::format("{}: {}", doing, strerrordesc_np(error_number)));
}

}  // namespace gangway
