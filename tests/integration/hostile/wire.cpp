#include "integration/hostile/wire.h"

namespace gangway::hostile {

Fields& Fields::bytes(std::span<const std::byte> data) {
  bytes_.insert(bytes_.end(), data.begin(), data.end());
  return *this;
}

Bytes encode(const Header& header) {
  return Fields().u16(header.id).u16(header.command).u32(header.size).u32(header.flags).u32(header.error).take();
}

Bytes message(std::uint16_t id, std::uint16_t command, std::span<const std::byte> body, std::uint32_t flags) {
  const auto size = static_cast<std::uint32_t>(kHeaderSize + body.size());
  return joined(encode({.id = id, .command = command, .size = size, .flags = flags}), body);
}

Bytes joined(std::span<const std::byte> front, std::span<const std::byte> back) {
  return Fields().bytes(front).bytes(back).take();
}

Bytes pattern(std::size_t size, std::uint8_t seed) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * 7 + (i >> 8) + seed) & 0xff);
  return bytes;
}

Bytes version(std::string_view json, std::uint16_t minor, std::uint16_t major) {
  return Fields().u16(major).u16(minor).text(json).text(std::string_view("\0", 1)).take();
}

Bytes dma_map(const DmaMap& fields) {
  return Fields().u32(fields.argsz).u32(fields.flags).u64(fields.offset).u64(fields.address).u64(fields.size).take();
}

Bytes dma_unmap(const DmaUnmap& fields) {
  return Fields().u32(fields.argsz).u32(fields.flags).u64(fields.address).u64(fields.size).take();
}

Bytes dma_unmap_bitmap(const DmaUnmap& fields, std::uint64_t page_size, std::uint64_t bitmap_size) {
  return Fields().bytes(dma_unmap(fields)).u64(page_size).u64(bitmap_size).take();
}

Bytes get_info(std::uint32_t argsz) { return Fields().u32(argsz).u32(0).u32(0).u32(0).take(); }

Bytes get_region_info(std::uint32_t index, std::uint32_t argsz) {
  return Fields().u32(argsz).u32(0).u32(index).u32(0).u64(0).u64(0).take();
}

Bytes get_region_io_fds(std::uint32_t index, std::uint32_t argsz) {
  return Fields().u32(argsz).u32(0).u32(index).u32(0).take();
}

Bytes get_irq_info(std::uint32_t index, std::uint32_t argsz) {
  return Fields().u32(argsz).u32(0).u32(index).u32(0).take();
}

Bytes set_irqs(const SetIrqs& fields) { return set_irqs(fields, static_cast<std::uint32_t>(20 + fields.data.size())); }

Bytes set_irqs(const SetIrqs& fields, std::uint32_t argsz) {
  return Fields()
      .u32(argsz)
      .u32(fields.flags)
      .u32(fields.index)
      .u32(fields.start)
      .u32(fields.count)
      .bytes(fields.data)
      .take();
}

Bytes region_read(std::uint32_t region, std::uint64_t offset, std::uint32_t count) {
  return Fields().u64(offset).u32(region).u32(count).take();
}

Bytes region_write(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> data) {
  return region_write(region, offset, static_cast<std::uint32_t>(data.size()), data);
}

Bytes region_write(std::uint32_t region, std::uint64_t offset, std::uint32_t count, std::span<const std::byte> data) {
  return Fields().u64(offset).u32(region).u32(count).bytes(data).take();
}

Bytes region_write_multi(std::uint64_t count, std::span<const SingleWrite> writes) {
  Fields fields;
  fields.u64(count);
  for (const SingleWrite& write : writes) {
    fields.u64(write.offset).u32(write.region).u32(write.count).u64(write.data);
  }
  return fields.take();
}

Bytes feature(std::uint32_t flags, std::span<const std::byte> data) { return feature(flags, data, 4096); }

Bytes feature(std::uint32_t flags, std::span<const std::byte> data, std::uint32_t argsz) {
  return Fields().u32(argsz).u32(flags).bytes(data).take();
}

Bytes set_state(std::uint32_t state) {
  return feature(kFeatureSet | kFeatureDeviceState, Fields().u32(state).u32(0).take(), 16);
}

Bytes get_state() { return feature(kFeatureGet | kFeatureDeviceState, {}, 16); }

Bytes logging_start(std::uint64_t page_size, std::span<const LoggedRange> ranges) {
  return logging_start(page_size, static_cast<std::uint32_t>(ranges.size()), ranges);
}

Bytes logging_start(std::uint64_t page_size, std::uint32_t count, std::span<const LoggedRange> ranges) {
  Fields fields;
  fields.u64(page_size).u32(count).u32(0);
  for (const LoggedRange& range : ranges) fields.u64(range.iova).u64(range.length);
  const Bytes data = fields.take();
  return feature(kFeatureSet | kFeatureLoggingStart, data, static_cast<std::uint32_t>(8 + data.size()));
}

Bytes logging_stop() { return feature(kFeatureSet | kFeatureLoggingStop, {}, 8); }

Bytes logging_report(std::uint64_t iova, std::uint64_t length, std::uint64_t page_size, std::uint32_t argsz) {
  return feature(kFeatureGet | kFeatureLoggingReport, Fields().u64(iova).u64(length).u64(page_size).take(), argsz);
}

Bytes mig_data_read(std::uint32_t size) { return mig_data_read(size, size + 8); }

Bytes mig_data_read(std::uint32_t size, std::uint32_t argsz) { return Fields().u32(argsz).u32(size).take(); }

Bytes mig_data_write(std::span<const std::byte> data) {
  const auto size = static_cast<std::uint32_t>(data.size());
  return mig_data_write(size, size + 8, data);
}

Bytes mig_data_write(std::uint32_t size, std::uint32_t argsz, std::span<const std::byte> data) {
  return Fields().u32(argsz).u32(size).bytes(data).take();
}

}  // namespace gangway::hostile
