// Disk images with an ext4 file system and, in it, one file that a workload may write past the file system's back.
//
// The file's blocks are allocated and never move, so a workload that keeps to them leaves the file system intact, which
// e2fsck can show afterwards. The work is done by e2fsprogs; ENOENT, naming the package, where it is missing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <gangway/error.h>

#include "guest/program.h"

namespace gangway::guest {

inline constexpr const char* kWorkloadFile = "gangway-workload";

// A new image of `size` bytes whose workload file has `file_size`. Overwrites what is there.
Result<void> make_ext4_image(const std::filesystem::path& image, std::uint64_t size, std::uint64_t file_size);

// True when the image or block device has an ext file system's superblock.
Result<bool> is_ext4(const std::filesystem::path& image);

// Puts a workload file of `file_size` bytes into an ext4 image that has none. ENOSPC when it does not fit.
Result<void> add_workload_file(const std::filesystem::path& image, std::uint64_t file_size);

// Where the workload file lies, ascending. ENOENT when the image has none.
Result<std::vector<Extent>> find_workload_file(const std::filesystem::path& image);

struct FileSystemCheck {
  bool clean = false;
  std::string output;  // of e2fsck -fn
};
Result<FileSystemCheck> check_ext4(const std::filesystem::path& image);

// Reads what `debugfs -R "ex -l FILE"` prints; EBADMSG for what is none, EINVAL for a file that is not all written.
Result<std::vector<Extent>> parse_extents(const std::string& listing, std::uint64_t block_size);

}  // namespace gangway::guest
