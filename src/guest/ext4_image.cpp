#include "guest/ext4_image.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "guest/child_process.h"

namespace gangway::guest {
namespace {

// ext2/3/4 on-disk format: the superblock lies 1024 bytes into the volume.
constexpr off_t kSuperblock = 1024;
constexpr std::size_t kLogBlockSize = 24;
constexpr std::size_t kMagicOffset = 56;
constexpr std::uint16_t kMagic = 0xef53;

struct Superblock {
  std::uint16_t magic = 0;
  std::uint32_t log_block_size = 0;
};

Result<Superblock> read_superblock(const std::filesystem::path& image) {
  const Fd file(::open(image.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno(fmt::format("open {}", image.string()));
  std::array<std::byte, 64> bytes{};
  if (::pread(file.get(), bytes.data(), bytes.size(), kSuperblock) < 0) {
    return fail_errno(fmt::format("read {}", image.string()));
  }
  return Superblock{load_at<std::uint16_t>(bytes, kMagicOffset).value_or(0),
                    load_at<std::uint32_t>(bytes, kLogBlockSize).value_or(0)};
}

Result<ToolResult> run_e2fsprogs(const std::string& tool, const std::vector<std::string>& arguments) {
  auto result = run_tool(tool, arguments);
  if (result || result.error().code != ENOENT) return result;
  return fail(ENOENT, fmt::format("{} (install the package e2fsprogs)", result.error().message));
}

// The file must not be sparse, and mkfs.ext4 and debugfs leave out blocks of zeros: so none is all zeros.
Result<void> write_filling(const std::filesystem::path& path, std::uint64_t size) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const std::string piece(1U << 20, '\xa5');
  for (std::uint64_t written = 0; written < size && file; written += piece.size()) {
    const auto rest = static_cast<std::streamsize>(std::min<std::uint64_t>(piece.size(), size - written));
    file.write(piece.data(), rest);
  }
  file.close();
  if (!file) return fail(EIO, fmt::format("write {} of {} bytes: is there enough space?", path.string(), size));
  return {};
}

// A temporary directory that holds the filling and is gone with it.
class Staging {
 public:
  static Result<Staging> fill(std::uint64_t size) {
    std::string path = (std::filesystem::temp_directory_path() / "gangway-filling-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) return fail_errno(fmt::format("make a directory {}", path));
    Staging staging(path);
    if (auto written = write_filling(staging.path_ / kWorkloadFile, size); !written) {
      return std::unexpected(written.error());
    }
    return staging;
  }
  ~Staging() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  Staging(Staging&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Staging& operator=(Staging&&) = delete;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit Staging(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace

Result<void> make_ext4_image(const std::filesystem::path& image, std::uint64_t size, std::uint64_t file_size) {
  const auto staging = Staging::fill(file_size);
  if (!staging) return std::unexpected(staging.error());
  const Fd file(::open(image.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
    return fail_errno(fmt::format("make {} of {} bytes", image.string(), size));
  }
  const auto made = run_e2fsprogs("mkfs.ext4", {"-q", "-F", "-b", "4096", "-d", staging->path(), image});
  if (!made) return std::unexpected(made.error());
  if (made->status != 0) return fail(EIO, fmt::format("mkfs.ext4 {}: {}", image.string(), made->output));
  return {};
}

Result<bool> is_ext4(const std::filesystem::path& image) {
  const auto superblock = read_superblock(image);
  if (!superblock) return std::unexpected(superblock.error());
  return superblock->magic == kMagic;
}

Result<void> add_workload_file(const std::filesystem::path& image, std::uint64_t file_size) {
  const auto staging = Staging::fill(file_size);
  if (!staging) return std::unexpected(staging.error());
  const std::string source = staging->path() / kWorkloadFile;
  const auto written = run_e2fsprogs("debugfs", {"-w", "-R", fmt::format("write {} {}", source, kWorkloadFile), image});
  if (!written) return std::unexpected(written.error());
  const auto extents = find_workload_file(image);
  if (!extents) return fail(ENOSPC, fmt::format("put a file into {}: {}", image.string(), written->output));
  std::uint64_t found = 0;
  for (const Extent& extent : *extents) found += extent.size;
  if (found >= file_size / 2) return {};  // some of it may be lost to pages cut in parts
  const auto removed = run_e2fsprogs("debugfs", {"-w", "-R", fmt::format("rm {}", kWorkloadFile), image});
  return fail(ENOSPC, fmt::format("{} has no room for a file of {} bytes", image.string(), file_size));
}

Result<std::vector<Extent>> find_workload_file(const std::filesystem::path& image) {
  const auto superblock = read_superblock(image);
  if (!superblock) return std::unexpected(superblock.error());
  if (superblock->magic != kMagic || superblock->log_block_size > 6) {
    return fail(EINVAL, fmt::format("{} has no ext4 file system", image.string()));
  }
  const auto listing = run_e2fsprogs("debugfs", {"-R", fmt::format("ex -l /{}", kWorkloadFile), image});
  if (!listing) return std::unexpected(listing.error());
  if (listing->output.find("File not found") != std::string::npos) {
    return fail(ENOENT, fmt::format("{} holds no file /{}", image.string(), kWorkloadFile));
  }
  auto extents = parse_extents(listing->output, 1024ULL << superblock->log_block_size);
  if (!extents) return fail_within(fmt::format("/{} in {}", kWorkloadFile, image.string()), extents.error());
  return extents;
}

// "Level Entries       Logical      Physical Length Flags", then lines as " 0/ 0   1/  1     0 -  2047   4096 -  6143
// 2048".
Result<std::vector<Extent>> parse_extents(const std::string& listing, std::uint64_t block_size) {
  std::vector<Extent> extents;
  std::istringstream lines(listing);
  for (std::string line; std::getline(lines, line);) {
    // Slashes and dashes separate numbers as spaces do.
    std::ranges::replace_if(line, [](char c) { return c == '/' || c == '-'; }, ' ');
    std::istringstream words(line);
    std::array<std::uint64_t, 9> numbers{};  // level of depth, entry of entries, logical, physical, length
    bool complete = true;
    for (std::uint64_t& number : numbers) complete = complete && static_cast<bool>(words >> number);
    if (!complete) continue;
    if (std::string flags; words >> flags) {
      return fail(EINVAL, fmt::format("blocks that were never written or are otherwise special ({})", flags));
    }
    // A file system with smaller blocks may begin and end a stretch within a page; the pages wholly inside count.
    const std::uint64_t begin = (numbers[6] * block_size + kPageSize - 1) / kPageSize * kPageSize;
    const std::uint64_t end = (numbers[6] + numbers[8]) * block_size / kPageSize * kPageSize;
    if (begin < end) extents.push_back({.offset = begin, .size = end - begin});
  }
  if (extents.empty()) return fail(EBADMSG, fmt::format("debugfs lists no extents: {}", listing));
  std::ranges::sort(extents, {}, &Extent::offset);
  return extents;
}

Result<FileSystemCheck> check_ext4(const std::filesystem::path& image) {
  auto result = run_e2fsprogs("e2fsck", {"-f", "-n", image});
  if (!result) return std::unexpected(result.error());
  return FileSystemCheck{.clean = result->status == 0, .output = std::move(result->output)};
}

}  // namespace gangway::guest
