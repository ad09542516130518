#include <algorithm>

#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

Result<gangway::RegionInfo> find_region(Session& session, std::uint32_t index) {
  std::optional<gangway::RegionInfo> region = session.endpoint.region(index);
  if (!region) {
    return fail(EINVAL, fmt::format("region {}: the device has {}", index, session.endpoint.region_count()));
  }
  return *std::move(region);
}

// Capabilities one after the other, each with the offset of the next.
class CapabilityList {
 public:
  template <class Cap>
  void add(Cap cap, std::span<const SparseArea> areas = {}) {
    const std::size_t size = sizeof cap + areas.size_bytes();
    if (!bytes_.empty()) {
      CapHeader last = *load_at<CapHeader>(bytes_, last_);
      last.next = static_cast<std::uint32_t>(sizeof(RegionInfo) + bytes_.size());
      (void)store_at(std::span(bytes_), last_, last);
    }
    last_ = bytes_.size();
    bytes_.resize(last_ + size);
    (void)store_at(std::span(bytes_), last_, cap);
    std::ranges::copy(std::as_bytes(areas), bytes_.begin() + static_cast<std::ptrdiff_t>(last_ + sizeof cap));
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::size_t last_ = 0;
};

bool maps_whole(const gangway::RegionInfo& region) {
  return region.mappable.size() == 1 && region.mappable.front().offset == 0 &&
         region.mappable.front().size == region.size;
}

CapabilityList capabilities_of(const gangway::RegionInfo& region, bool mappable) {
  CapabilityList list;
  if (mappable && !maps_whole(region)) {
    std::vector<SparseArea> areas;
    for (const MappableArea& area : region.mappable) areas.push_back({area.offset, area.size});
    list.add(CapSparseMmap{.areas = static_cast<std::uint32_t>(areas.size())}, areas);
  }
  if (region.type) list.add(CapType{.type = region.type->type, .subtype = region.type->subtype});
  return list;
}

Result<RegionAccess> checked_access(Session& session, const Request& request) {
  const auto access = fixed_part<RegionAccess>(request);
  if (access.count > session.offered.max_data_xfer_size) {
    return fail(EINVAL, fmt::format("region {}: an access of {} bytes, at most {} are served", access.region,
                                    access.count, session.offered.max_data_xfer_size));
  }
  return access;
}

}  // namespace

Result<void> handle_get_region_info(Session& session, const Request& request, Answer& answer) {
  const auto asked = fixed_part<RegionInfo>(request);
  if (Result<void> fits = check_argsz("GET_REGION_INFO", asked.argsz, sizeof asked); !fits) return fits;
  const Result<gangway::RegionInfo> region = find_region(session, asked.index);
  if (!region) return std::unexpected(region.error());

  // A client that takes no descriptor cannot map.
  const bool mappable = region->file >= 0 && !region->mappable.empty() && session.negotiated->client.max_msg_fds > 0;
  const CapabilityList list = capabilities_of(*region, mappable);
  RegionInfo info{.argsz = static_cast<std::uint32_t>(sizeof info + list.bytes().size()),
                  .flags = (region->read ? kRegionRead : 0) | (region->write ? kRegionWrite : 0),
                  .index = asked.index,
                  .size = region->size};
  if (mappable) {
    info.flags |= kRegionMmap;
    info.offset = region->file_offset;
    answer.send_fd(region->file);
  }
  if (!list.bytes().empty()) {
    info.flags |= kRegionCaps;
    info.cap_offset = sizeof info;
  }
  answer.put(info);
  if (info.argsz <= asked.argsz && !list.bytes().empty()) {
    std::ranges::copy(list.bytes(), answer.room(list.bytes().size()).begin());
  }
  return {};
}

Result<void> handle_get_region_io_fds(Session& session, const Request& request, Answer& answer) {
  const auto asked = fixed_part<RegionIoFds>(request);
  if (Result<void> fits = check_argsz("GET_REGION_IO_FDS", asked.argsz, sizeof asked); !fits) return fits;
  if (asked.flags != 0) return fail(EINVAL, fmt::format("GET_REGION_IO_FDS: unknown flags {:#x}", asked.flags));
  if (const auto region = find_region(session, asked.index); !region) return std::unexpected(region.error());

  // As many as the client takes descriptors for; a descriptor that serves several stretches is sent once.
  std::vector<SubRegionIoeventfd> found;
  std::vector<int> fds;
  for (const IoEventfd& area : session.endpoint.io_eventfds(asked.index)) {
    const int fd = area.eventfd->get();
    auto known = std::ranges::find(fds, fd);
    if (known == fds.end()) {
      if (fds.size() >= session.negotiated->client.max_msg_fds) continue;
      known = fds.insert(fds.end(), fd);
    }
    found.push_back(
        {.offset = area.offset, .size = area.size, .fd_index = static_cast<std::uint32_t>(known - fds.begin())});
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(found));
  const RegionIoFds info{.argsz = static_cast<std::uint32_t>(sizeof info + bytes.size()),
                         .index = asked.index,
                         .count = static_cast<std::uint32_t>(found.size())};
  answer.put(info);
  if (info.argsz > asked.argsz || found.empty()) return {};
  std::ranges::copy(bytes, answer.room(bytes.size()).begin());
  for (const int fd : fds) answer.send_fd(fd);
  return {};
}

Result<void> handle_region_read(Session& session, const Request& request, Answer& answer) {
  const Result<RegionAccess> access = checked_access(session, request);
  if (!access) return std::unexpected(access.error());
  const std::span<std::byte> reply = answer.room(sizeof *access + access->count);
  (void)store_at(reply, 0, *access);
  return session.endpoint.read(access->region, access->offset, reply.subspan(sizeof *access));
}

Result<void> handle_region_write(Session& session, const Request& request, Answer& answer) {
  const Result<RegionAccess> access = checked_access(session, request);
  if (!access) return std::unexpected(access.error());
  const std::span<const std::byte> data = request.body.subspan(sizeof *access);
  if (data.size() != access->count) {
    return fail(EINVAL,
                fmt::format("region {}: write of {} bytes came with {}", access->region, access->count, data.size()),
                "WIR-FRAME");
  }
  if (Result<void> written = session.endpoint.write(access->region, access->offset, data); !written) return written;
  answer.put(*access);
  return {};
}

// Writes in order up to the first that fails; the count says how many were made.
Result<void> handle_region_write_multi(Session& session, const Request& request, Answer& answer) {
  const auto multi = fixed_part<RegionWriteMulti>(request);
  const std::span<const std::byte> writes = request.body.subspan(sizeof multi);
  if (writes.size() % sizeof(SingleWrite) != 0 || writes.size() / sizeof(SingleWrite) != multi.count) {
    return fail(EINVAL, fmt::format("WRITE_MULTI: {} writes in {} bytes", multi.count, writes.size()), "WIR-FRAME");
  }
  for (std::uint64_t done = 0; done < multi.count; ++done) {
    const auto write = *load_at<SingleWrite>(writes, done * sizeof(SingleWrite));
    Result<void> written = fail(EINVAL, fmt::format("WRITE_MULTI: a write of {} bytes", write.count), "WIR-FRAME");
    if (write.count >= 1 && write.count <= sizeof write.data) {
      written = session.endpoint.write(write.region, write.offset, bytes_of(write.data).first(write.count));
    }
    if (written) continue;
    if (done == 0) return written;
    answer.put(RegionWriteMulti{done});
    return {};
  }
  answer.put(multi);
  return {};
}

}  // namespace gangway::vfio_user
