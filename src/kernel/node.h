// Opens a node of /dev and says, if that fails, what to do about it.
#pragma once

#include <filesystem>
#include <string_view>

#include <gangway/error.h>
#include <gangway/fd.h>

namespace gangway::kernel {

// For reading and writing. `absent` is what it means that the node is not there.
Result<Fd> open_node(const std::filesystem::path& node, std::string_view absent);

// The sentence for a node that could not be opened.
[[nodiscard]] Error why_not_opened(const std::filesystem::path& node, int error_number, std::string_view absent);

}  // namespace gangway::kernel
