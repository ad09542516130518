#include "record/tracee_memory.h"

#include <sys/uio.h>

#include <algorithm>
#include <bit>

namespace gangway::record {
namespace {

constexpr std::size_t kMostText = 4096;
constexpr std::size_t kPiece = 128U << 10;
constexpr std::size_t kPage = 4096;

}  // namespace

std::size_t TraceeMemory::read_into(std::uint64_t address, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    const iovec here{into.data() + done, into.size() - done};
    const iovec there{std::bit_cast<void*>(address + done), into.size() - done};
    const ssize_t got = ::process_vm_readv(thread_, &here, 1, &there, 1, 0);
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

std::vector<std::byte> TraceeMemory::read(std::uint64_t address, std::size_t size) const {
  std::vector<std::byte> bytes(size);
  bytes.resize(read_into(address, bytes));
  return bytes;
}

std::string TraceeMemory::read_text(std::uint64_t address) const {
  std::string text;
  while (text.size() < kMostText) {
    // Not beyond a page, behind which there may be nothing.
    const std::size_t size = kPage - (address + text.size()) % kPage;
    const std::vector<std::byte> bytes = read(address + text.size(), size);
    const auto end = std::ranges::find(bytes, std::byte{0});
    text.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(end - bytes.begin()));
    if (end != bytes.end() || bytes.size() < size) break;
  }
  text.resize(std::min(text.size(), kMostText));
  return text;
}

bool TraceeMemory::each_piece(std::uint64_t address, std::uint64_t size,
                              const std::function<void(std::span<const std::byte>)>& piece) const {
  std::vector<std::byte> bytes(std::min<std::uint64_t>(size, kPiece));
  while (size != 0) {
    const std::size_t wanted = std::min<std::uint64_t>(size, bytes.size());
    const std::size_t got = read_into(address, std::span(bytes).first(wanted));
    piece(std::span(bytes).first(got));
    if (got < wanted) return false;
    address += got;
    size -= got;
  }
  return true;
}

}  // namespace gangway::record
