#include "device/state_memory_list.h"

#include <cstdint>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/printable.h"
#include "device/state_frame.h"

namespace gangway {
namespace {

// Followed by `name_length` bytes of name.
struct Entry {
  std::uint64_t size;  // bytes
  std::uint64_t name_length;
};

void append(std::vector<std::byte>& list, std::span<const std::byte> bytes) {
  list.insert(list.end(), bytes.begin(), bytes.end());
}

std::unexpected<Error> differs(std::string message) {
  return fail(EINVAL, "state memory: " + std::move(message), "DAT-IDENTITY");
}

}  // namespace

std::vector<std::byte> encode_memory_list(std::span<const StateMemory> memories) {
  std::vector<std::byte> list;
  for (const StateMemory& memory : memories) {
    const Entry entry{memory.bytes.size(), memory.name.size()};
    append(list, bytes_of(entry));
    append(list, std::as_bytes(std::span(memory.name)));
  }
  return list;
}

Result<void> check_memory_list(std::span<const std::byte> list, std::span<const StateMemory> memories) {
  for (const StateMemory& memory : memories) {
    if (list.empty()) return differs(fmt::format("the stream has no '{}', which this device has", memory.name));
    const std::optional<Entry> entry = load_at<Entry>(list);
    if (!entry || entry->name_length > list.size() - sizeof(Entry)) return differs("the list is cut off");
    const std::span<const std::byte> bytes = list.subspan(sizeof(Entry), entry->name_length);
    const std::string_view name(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (name != memory.name) {
      return differs(
          fmt::format("the stream has '{}' where this device has '{}'", printable(name, frame::kMaxName), memory.name));
    }
    if (entry->size != memory.bytes.size()) {
      return differs(fmt::format("'{}' has {} bytes in the stream and {} in this device", memory.name, entry->size,
                                 memory.bytes.size()));
    }
    list = list.subspan(sizeof(Entry) + entry->name_length);
  }
  if (!list.empty()) return differs("the stream has more of it than this device");
  return {};
}

}  // namespace gangway
