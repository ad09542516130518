// A server's list of stretches whose writes a descriptor tells: entries of any number and length, that name any
// descriptor and lie anywhere.
//
// The input is the region's size, the number of entries, that of the descriptors, then the entries.
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "vfio_user/io_fds.h"

namespace {

struct Said {
  std::uint64_t region_size;
  std::uint32_t count;
  std::uint32_t descriptors;
};
constexpr std::uint32_t kMostDescriptors = 16;  // more than a message brings

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gangway;
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto said = load_at<Said>(bytes);
  if (!said) return 0;
  const auto found = vfio_user::to_io_fds(said->region_size, said->count, bytes.subspan(sizeof *said),
                                          std::vector<Fd>(said->descriptors % kMostDescriptors));
  if (!found) return 0;
  if (found->size() != said->count) std::abort();
  for (const DeviceHandle::IoFd& one : *found) {
    if (one.file == nullptr) std::abort();
    if (one.offset >= said->region_size || one.size > said->region_size - one.offset) std::abort();
  }
  return 0;
}
