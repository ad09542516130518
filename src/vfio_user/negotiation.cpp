#include "vfio_user/negotiation.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vfio_user/socket.h"

namespace gangway::vfio_user {
namespace {

using nlohmann::json;

constexpr int kMaxDepth = 8;  // what is nested deeper is nothing we know

std::unexpected<Error> malformed(std::string_view what) {
  return fail(EINVAL, fmt::format("VERSION: {}", what), "WIR-NEGOTIATE");
}

template <class T>
Result<void> read_number(const json& from, const char* key, std::uint64_t most, T& into) {
  const auto found = from.find(key);
  if (found == from.end()) return {};
  if (!found->is_number_unsigned()) return malformed(fmt::format("{} is no unsigned number", key));
  into = static_cast<T>(std::min(found->get<std::uint64_t>(), most));
  return {};
}

Result<void> read_bool(const json& from, const char* key, bool& into) {
  const auto found = from.find(key);
  if (found == from.end()) return {};
  if (!found->is_boolean()) return malformed(fmt::format("{} is no boolean", key));
  into = found->get<bool>();
  return {};
}

Result<const json*> find_object(const json& from, const char* key) {
  const auto found = from.find(key);
  if (found == from.end()) return nullptr;
  if (!found->is_object()) return malformed(fmt::format("{} is no object", key));
  return &*found;
}

Result<void> read_twin_socket(const json& from, Capabilities& into) {
  const Result<const json*> twin = find_object(from, "twin_socket");
  if (!twin) return std::unexpected(twin.error());
  if (*twin == nullptr) return {};
  if (Result<void> read = read_bool(**twin, "supported", into.twin_socket); !read) return read;
  if (!(*twin)->contains("fd_index")) return {};
  return read_number(**twin, "fd_index", std::numeric_limits<std::uint32_t>::max(), into.twin_fd_index.emplace());
}

Result<void> read_own_key(const json& from, Capabilities& into) {
  const Result<const json*> own = find_object(from, "gangway");
  if (!own) return std::unexpected(own.error());
  if (*own == nullptr) return {};
  if (Result<void> read = read_bool(**own, "enomsg", into.enomsg); !read) return read;
  if (Result<void> read = read_bool(**own, "precopy_info", into.precopy_info); !read) return read;
  return read_bool(**own, "shared_data", into.shared_data);
}

Result<void> read_all(const json& from, Capabilities& into) {
  constexpr std::uint64_t kAny = std::numeric_limits<std::uint64_t>::max();
  if (Result<void> read = read_number(from, "max_msg_fds", kMaxDescriptors, into.max_msg_fds); !read) return read;
  if (Result<void> read = read_number(from, "max_data_xfer_size", kLargestDataXferSize, into.max_data_xfer_size);
      !read) {
    return read;
  }
  if (Result<void> read = read_number(from, "max_dma_maps", kAny, into.max_dma_maps); !read) return read;
  if (Result<void> read = read_number(from, "pgsizes", kAny, into.page_sizes); !read) return read;
  if (Result<void> read = read_bool(from, "write_multiple", into.write_multiple); !read) return read;
  if (Result<void> read = read_twin_socket(from, into); !read) return read;
  into.named_migration = from.contains("migration");
  into.named_dma_limits = from.contains("pgsizes") || from.contains("max_dma_maps");
  into.named_transfer_limits = from.contains("max_msg_fds") && from.contains("max_data_xfer_size");
  return read_own_key(from, into);
}

}  // namespace

Result<Capabilities> parse_capabilities(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxVersionJson) return malformed(fmt::format("{} bytes of JSON are too many", bytes.size()));
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  while (text.ends_with('\0')) text.remove_suffix(1);
  Capabilities capabilities;
  if (text.empty()) return capabilities;
  const auto keep = [](int depth, json::parse_event_t, json&) { return depth <= kMaxDepth; };
  const json version = json::parse(text, keep, /*allow_exceptions=*/false);
  if (!version.is_object()) return malformed("what follows the numbers is no JSON object");
  const Result<const json*> found = find_object(version, "capabilities");
  if (!found) return std::unexpected(found.error());
  if (*found == nullptr) return capabilities;
  if (Result<void> read = read_all(**found, capabilities); !read) return std::unexpected(read.error());
  return capabilities;
}

std::string to_json(const Capabilities& capabilities) {
  json all{{"max_msg_fds", capabilities.max_msg_fds},
           {"max_data_xfer_size", capabilities.max_data_xfer_size},
           {"max_dma_maps", capabilities.max_dma_maps},
           {"pgsizes", capabilities.page_sizes}};
  if (capabilities.write_multiple) all["write_multiple"] = true;
  if (capabilities.twin_socket) all["twin_socket"]["supported"] = true;
  if (capabilities.twin_fd_index) all["twin_socket"]["fd_index"] = *capabilities.twin_fd_index;
  if (capabilities.enomsg) all["gangway"]["enomsg"] = true;
  if (capabilities.precopy_info) all["gangway"]["precopy_info"] = true;
  if (capabilities.shared_data) all["gangway"]["shared_data"] = true;
  std::string text = json{{"capabilities", std::move(all)}}.dump();
  text.push_back('\0');
  return text;
}

bool is_libvfio_user_client(const Capabilities& client) {
  const bool able = client.write_multiple || client.enomsg || client.precopy_info || client.shared_data;
  return client.named_transfer_limits && !client.named_dma_limits && !able;
}

Capabilities common(Capabilities own, const Capabilities& peer) {
  own.write_multiple &= peer.write_multiple;
  own.twin_socket &= peer.twin_socket;
  own.enomsg &= peer.enomsg;
  own.precopy_info &= peer.precopy_info;
  own.shared_data &= peer.shared_data;
  return own;
}

}  // namespace gangway::vfio_user
