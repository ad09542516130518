// What a client has to reach regions with beyond reads and writes: several writes in a message, and descriptors.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/bytes.h"
#include "vfio_user/client.h"
#include "vfio_user/client_description.h"
#include "vfio_user/io_fds.h"

namespace gangway::vfio_user {

// --- several writes ---

Result<std::size_t> Client::write_multi(std::span<const RegionWrite> writes) {
  if (const Result<void> good = check(writes); !good) return std::unexpected(good.error());
  const std::size_t at_once = std::max<std::size_t>(server_.max_data_xfer_size / sizeof(SingleWrite), 1);
  std::size_t done = 0;
  while (done < writes.size()) {
    const auto next = writes.subspan(done, std::min(at_once, writes.size() - done));
    const Result<std::size_t> made =
        server_.write_multiple ? write_in_one_message(next) : DeviceHandle::write_multi(next);
    // Of a connection that broke nobody knows what was made.
    if (broken()) return std::unexpected(*broken());
    if (!made && done == 0) return made;
    done += made.value_or(0);
    if (!made || *made < next.size()) break;
  }
  return done;
}

Result<std::size_t> Client::write_in_one_message(std::span<const RegionWrite> writes) {
  std::vector<SingleWrite> all;
  all.reserve(writes.size());
  for (const RegionWrite& write : writes) {
    SingleWrite& single = all.emplace_back(SingleWrite{
        .offset = write.offset, .region = write.region, .count = static_cast<std::uint32_t>(write.data.size())});
    std::ranges::copy(write.data, room_for(single.data).begin());
  }
  const RegionWriteMulti asked{all.size()};
  RegionWriteMulti answered;
  const std::array body{bytes_of(asked), std::as_bytes(std::span(all))};
  const Result<Channel::Reply> reply = call_exactly(Command::RegionWriteMulti, {body, {}}, room_for(answered));
  if (!reply) {
    return std::unexpected(in_words(fmt::format("{} writes, the first to region {} at {:#x}", writes.size(),
                                                writes.front().region, writes.front().offset),
                                    reply.error()));
  }
  if (answered.count > asked.count) {
    return fail_protocol(fmt::format("WRITE_MULTI of {} writes: {} were made", asked.count, answered.count));
  }
  return answered.count;
}

// --- descriptors of stretches ---

Result<std::vector<DeviceHandle::IoFd>> Client::io_fds(std::uint32_t index) {
  const Result<Region> described = region(index);
  if (!described) return std::unexpected(described.error());
  auto list = describe<RegionIoFds>(Command::DeviceGetRegionIoFds, index, "the list of descriptors");
  if (!list) return std::unexpected(list.error());
  auto found = to_io_fds(described->size, list->fixed.count, list->rest, std::move(list->fds));
  if (!found) return fail_protocol(found.error().message);
  return found;
}

}  // namespace gangway::vfio_user
