// Files that a client offers as its memory, good and bad.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <gangway/fd.h>

namespace gangway::hostile {

[[nodiscard]] Fd memory_file(std::size_t size);
void write_file(const Fd& file, std::size_t offset, std::span<const std::byte> bytes);
[[nodiscard]] std::vector<std::byte> read_file(const Fd& file, std::size_t offset, std::size_t size);
void truncate_file(const Fd& file, std::size_t size);

// A file of `size` on a file system with room for a single page: writing to more of it by a mapping raises SIGBUS.
// nullopt where this process may not mount one.
[[nodiscard]] std::optional<Fd> file_without_room(std::size_t size);

}  // namespace gangway::hostile
