// What messages of vfio-user mean.
#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>

#include <gangway/device_handle.h>

#include "base/bytes.h"
#include "record/act_reader.h"
#include "record/structures.h"

namespace gangway::record {
namespace {

namespace wire = vfio_user;

// A request and its answer. Without an answer, or with an error, the answer is empty.
struct Exchange {
  const MessageRecord& request;
  Bytes asked;
  Bytes answered;
  const MessageRecord* reply = nullptr;  // one that is no error
};

std::string text_behind(Bytes bytes, std::size_t offset) {
  if (bytes.size() <= offset) return {};
  const Bytes rest = bytes.subspan(offset);
  std::string text(reinterpret_cast<const char*>(rest.data()), rest.size());
  while (text.ends_with('\0')) text.pop_back();
  return text;
}

Payload reply_payload(const Exchange& in) { return in.reply != nullptr ? in.reply->payload : Payload{}; }

Doing version(const Exchange& in) {
  const auto asked = structure<wire::Version>(in.asked);
  const auto answered = structure<wire::Version>(in.answered);
  return Negotiate{.major = asked.major,
                   .minor = asked.minor,
                   .proposed = text_behind(in.asked, sizeof asked),
                   .answered_major = answered.major,
                   .answered_minor = answered.minor,
                   .answered = text_behind(in.answered, sizeof answered)};
}

Doing dma_map(const Exchange& in) {
  const auto map = structure<wire::DmaMap>(in.asked);
  return MapDma{.range = {{map.address}, map.size},
                .flags = map.flags,
                .offset = map.offset,
                .with_memory = !in.request.descriptors.empty()};
}

Doing dma_unmap(const Exchange& in) {
  const auto unmap = structure<wire::DmaUnmap>(in.asked);
  return UnmapDma{.range = {{unmap.address}, unmap.size}, .flags = unmap.flags, .bitmap = reply_payload(in)};
}

Doing get_info(const Exchange& in) {
  const auto info = structure<wire::DeviceInfo>(in.answered);
  return GetInfo{.flags = info.flags, .regions = info.regions, .irqs = info.irqs};
}

Doing get_region(const Exchange& in) { return region_of(in.asked, in.answered); }

Doing get_region_fds(const Exchange& in) {
  return GetRegionFds{.region = structure<wire::RegionIoFds>(in.asked).index,
                      .count = structure<wire::RegionIoFds>(in.answered).count};
}

Doing get_irq(const Exchange& in) {
  const auto info = structure<wire::IrqInfo>(in.answered);
  return GetIrq{.type = structure<wire::IrqInfo>(in.asked).index, .flags = info.flags, .count = info.count};
}

Doing set_irqs(const Exchange& in) {
  SetIrqs set = irqs_of(in.asked);
  if ((set.flags & wire::kIrqDataEventfd) != 0) {
    set.descriptors = static_cast<std::uint32_t>(in.request.descriptors.size());
  }
  return set;
}

Doing region_read(const Exchange& in) {
  const auto access = structure<wire::RegionAccess>(in.asked);
  return ReadRegion{.region = access.region,
                    .offset = access.offset,
                    .size = access.count,
                    .data = copy_of(behind(in.answered, sizeof access)),
                    .payload = reply_payload(in)};
}

Doing region_write(const Exchange& in) {
  const auto access = structure<wire::RegionAccess>(in.asked);
  return WriteRegion{.region = access.region,
                     .offset = access.offset,
                     .size = access.count,
                     .data = copy_of(behind(in.asked, sizeof access)),
                     .payload = in.request.payload};
}

Doing region_write_multi(const Exchange& in) {
  WriteRegions all{.done = structure<wire::RegionWriteMulti>(in.answered).count};
  for (std::size_t at = sizeof(wire::RegionWriteMulti); at + sizeof(wire::SingleWrite) <= in.asked.size();
       at += sizeof(wire::SingleWrite)) {
    const auto one = structure<wire::SingleWrite>(in.asked, at);
    const Bytes data = bytes_of(one.data);
    all.writes.push_back({.region = one.region,
                          .offset = one.offset,
                          .size = one.count,
                          .data = copy_of(data.first(std::min<std::size_t>(one.count, data.size())))});
  }
  return all;
}

Doing dma_read(const Exchange& in) {
  const auto access = structure<wire::DmaAccessMessage>(in.asked);
  return DeviceReads{.iova = {access.address}, .size = access.count, .payload = reply_payload(in)};
}

Doing dma_write(const Exchange& in) {
  const auto access = structure<wire::DmaAccessMessage>(in.asked);
  return DeviceWrites{.iova = {access.address}, .size = access.count, .payload = in.request.payload};
}

Doing feature(const Exchange& in) { return feature_of(in.asked, in.answered, {}, reply_payload(in)); }

Doing mig_data_read(const Exchange& in) {
  return ReadData{.asked = structure<wire::MigData>(in.asked).size, .got = reply_payload(in)};
}
Doing mig_data_write(const Exchange& in) { return WriteData{.given = in.request.payload}; }
Doing mig_data_read_shared(const Exchange& in) {
  return ReadData{.asked = structure<wire::MigDataShared>(in.asked).size, .got = reply_payload(in), .shared = true};
}
Doing mig_data_write_shared(const Exchange& in) { return WriteData{.given = in.request.payload, .shared = true}; }
Doing reset(const Exchange&) { return Reset{}; }

constexpr std::pair<wire::Command, Doing (*)(const Exchange&)> kMeanings[] = {
    {wire::Command::Version, version},
    {wire::Command::DmaMap, dma_map},
    {wire::Command::DmaUnmap, dma_unmap},
    {wire::Command::DeviceGetInfo, get_info},
    {wire::Command::DeviceGetRegionInfo, get_region},
    {wire::Command::DeviceGetRegionIoFds, get_region_fds},
    {wire::Command::DeviceGetIrqInfo, get_irq},
    {wire::Command::DeviceSetIrqs, set_irqs},
    {wire::Command::RegionRead, region_read},
    {wire::Command::RegionWrite, region_write},
    {wire::Command::RegionWriteMulti, region_write_multi},
    {wire::Command::DmaRead, dma_read},
    {wire::Command::DmaWrite, dma_write},
    {wire::Command::DeviceReset, reset},
    {wire::Command::DeviceFeature, feature},
    {wire::Command::MigDataRead, mig_data_read},
    {wire::Command::MigDataWrite, mig_data_write},
    {wire::Command::MigDataReadShared, mig_data_read_shared},
    {wire::Command::MigDataWriteShared, mig_data_write_shared},
};

}  // namespace

Doing meaning_of(const MessageRecord& request, const MessageRecord* reply) {
  const bool refused = reply != nullptr && (reply->header.flags & wire::kError) != 0;
  const MessageRecord* answer = refused ? nullptr : reply;
  const Exchange exchange{.request = request,
                          .asked = request.structure,
                          .answered = answer != nullptr ? Bytes(answer->structure) : Bytes(),
                          .reply = answer};
  const auto found = std::ranges::find(kMeanings, static_cast<wire::Command>(request.header.command),
                                       &std::pair<wire::Command, Doing (*)(const Exchange&)>::first);
  if (found != std::end(kMeanings)) return found->second(exchange);
  return Other{.name = fmt::format("command {}", request.header.command),
               .argument = copy_of(exchange.asked),
               .answer = copy_of(exchange.answered)};
}

}  // namespace gangway::record
