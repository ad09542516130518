#include "migrate/setup.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/printable.h"

namespace gangway::migrate {
namespace {

constexpr std::uint32_t kPageChecksums = 1;

class Writer {
 public:
  template <class T>
  void number(T value) {
    const auto bytes = bytes_of(value);
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void text(std::string_view value) {
    number(static_cast<std::uint32_t>(value.size()));
    const auto bytes = std::as_bytes(std::span(value));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<std::byte> out_;
};

// After the first thing that does not fit everything reads as nothing, and ok() is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <class T>
  T number() {
    const auto value = load_at<T>(in_);
    if (!value) {
      ok_ = false;
      return T{};
    }
    in_ = in_.subspan(sizeof(T));
    return *value;
  }
  std::string text() {
    const auto size = number<std::uint32_t>();
    if (size == 0 || size > kMaxName || size > in_.size()) {
      ok_ = false;
      return {};
    }
    std::string value(reinterpret_cast<const char*>(in_.data()), size);
    in_ = in_.subspan(size);
    return value;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return in_.empty(); }

 private:
  std::span<const std::byte> in_;
  bool ok_ = true;
};

Result<void> check_block(const MemoryBlock& block) {
  const bool aligned = block.iova.start.value % kPageSize == 0 && block.iova.size % kPageSize == 0 &&
                       reinterpret_cast<std::uintptr_t>(block.bytes.data()) % kPageSize == 0;
  if (!block.iova.valid() || !aligned || block.bytes.size() != block.iova.size) {
    return fail(EINVAL, fmt::format("memory block {}: {} bytes at {:#x}, {} of them mapped, are no whole pages",
                                    block.name, block.iova.size, block.iova.start.value, block.bytes.size()));
  }
  return {};
}

Result<void> check_name(std::string_view what, std::string_view name) {
  if (!name.empty() && name.size() <= kMaxName) return {};
  return fail(EINVAL, fmt::format("{} '{}': a name has 1 to {} bytes", what, name, kMaxName));
}

std::string text_of(const Setup::Block& block) {
  return fmt::format("{} ({} bytes at {:#x})", printable(block.name), block.iova.size, block.iova.start.value);
}

std::string text_of(const Setup::Device& device) {
  return fmt::format("{} (migration flags {:#x})", printable(device.id), device.flags);
}

template <class T>
Result<void> check_same_list(std::string_view what, const std::vector<T>& source, const std::vector<T>& here) {
  for (std::size_t i = 0; i < source.size() && i < here.size(); ++i) {
    if (source[i] != here[i]) {
      return fail(EINVAL,
                  fmt::format("{} {} is {} at the source and {} here", what, i, text_of(source[i]), text_of(here[i])));
    }
  }
  if (source.size() != here.size()) {
    return fail(EINVAL, fmt::format("{} {}s at the source, {} here", source.size(), what, here.size()));
  }
  return {};
}

}  // namespace

Result<Setup> describe(const Machine& machine) {
  Setup setup;
  if (machine.memory().size() > kMaxBlocks || machine.devices().size() > kMaxDevices) {
    return fail(E2BIG, fmt::format("{} memory blocks and {} devices (at most {} and {})", machine.memory().size(),
                                   machine.devices().size(), kMaxBlocks, kMaxDevices));
  }
  for (const MemoryBlock& block : machine.memory()) {
    if (auto named = check_name("memory block", block.name); !named) return std::unexpected(named.error());
    if (auto checked = check_block(block); !checked) return std::unexpected(checked.error());
    setup.blocks.push_back({.name = block.name, .iova = block.iova});
  }
  for (const MachineDevice& device : machine.devices()) {
    if (auto named = check_name("device", device.id); !named) return std::unexpected(named.error());
    auto flags = device.handle->migration_flags();
    if (!flags) return fail_within(fmt::format("device {}", device.id), flags.error());
    setup.devices.push_back({.id = device.id, .flags = flags->bits()});
  }
  return setup;
}

std::vector<std::byte> encode(const Setup& setup) {
  Writer out;
  out.number(kPageSize);
  out.number(setup.page_checksums ? kPageChecksums : 0U);
  out.number(static_cast<std::uint32_t>(setup.blocks.size()));
  out.number(static_cast<std::uint32_t>(setup.devices.size()));
  for (const Setup::Block& block : setup.blocks) {
    out.number(block.iova.start.value);
    out.number(block.iova.size);
    out.text(block.name);
  }
  for (const Setup::Device& device : setup.devices) {
    out.number(device.flags);
    out.text(device.id);
  }
  return out.take();
}

Result<Setup> decode_setup(std::span<const std::byte> payload) {
  Reader in(payload);
  const auto page_size = in.number<std::uint64_t>();
  const auto flags = in.number<std::uint32_t>();
  const auto blocks = in.number<std::uint32_t>();
  const auto devices = in.number<std::uint32_t>();
  if (!in.ok()) return fail(EPROTO, fmt::format("SETUP: {} bytes are too short", payload.size()));
  if (page_size != kPageSize) return fail(EPROTO, fmt::format("SETUP: pages of {} bytes", page_size));
  if ((flags & ~kPageChecksums) != 0) return fail(EPROTO, fmt::format("SETUP: unknown flags {:#x}", flags));
  if (blocks > kMaxBlocks || devices > kMaxDevices) {
    return fail(EPROTO, fmt::format("SETUP: {} memory blocks and {} devices", blocks, devices));
  }
  Setup setup{.page_checksums = flags != 0};
  for (std::uint32_t i = 0; i < blocks && in.ok(); ++i) {
    const auto start = in.number<std::uint64_t>();
    const auto size = in.number<std::uint64_t>();
    setup.blocks.push_back({.name = in.text(), .iova = {.start = {start}, .size = size}});
  }
  for (std::uint32_t i = 0; i < devices && in.ok(); ++i) {
    const auto bits = in.number<std::uint64_t>();
    setup.devices.push_back({.id = in.text(), .flags = bits});
  }
  if (!in.ok() || !in.at_end()) return fail(EPROTO, "SETUP: its lists do not fit its length");
  return setup;
}

Result<void> check_same(const Setup& source, const Setup& here) {
  if (auto same = check_same_list("memory block", source.blocks, here.blocks); !same) return same;
  return check_same_list("device", source.devices, here.devices);
}

}  // namespace gangway::migrate
