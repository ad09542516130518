// The migration region with one thing done wrong: what its defects derive from.
//
// Thread-safety: as RegionFrontEnd.
#pragma once

#include <cstdint>
#include <span>

#include <gangway/migration_region.h>

#include "base/bytes.h"
#include "devices/faulty/defect.h"

namespace gangway::faulty {

// The value that a client writes whole to the field at `field`; nullopt for any other access.
template <class T>
[[nodiscard]] std::optional<T> written(std::uint64_t field, std::uint64_t offset, std::span<const std::byte> in) {
  if (offset != field || in.size() != sizeof(T)) return std::nullopt;
  return load_at<T>(in);
}

class FaultyFrontEnd : public RegionFrontEnd {
 public:
  using RegionFrontEnd::RegionFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    Result<void> done = RegionFrontEnd::read(offset, out);
    if (done && offset == migration_region::kDeviceState) (void)store_at(out, 0, told(*load_at<std::uint32_t>(out)));
    return done;
  }
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in) override {
    const auto value = written<std::uint32_t>(migration_region::kDeviceState, offset, in);
    return value ? set(*value) : RegionFrontEnd::write(offset, in);
  }

 protected:
  // What device_state reads as; `value` is what a good region has.
  [[nodiscard]] virtual std::uint32_t told(std::uint32_t value) { return value; }
  // A client writes device_state.
  virtual Result<void> set(std::uint32_t value) { return put(migration_region::kDeviceState, value); }

  // The accesses that a good region answers, from within.
  template <class T>
  Result<T> get(std::uint64_t offset) {
    T value{};
    if (auto read = RegionFrontEnd::read(offset, std::as_writable_bytes(std::span(&value, 1))); !read) {
      return std::unexpected(read.error());
    }
    return value;
  }
  template <class T>
  Result<void> put(std::uint64_t offset, T value) {
    return RegionFrontEnd::write(offset, bytes_of(value));
  }
  Result<void> put_state(DeviceState state) {
    const bool v1 = revision() == Revision::V1;
    return put(migration_region::kDeviceState,
               v1 ? migration_region::v1_bits(state) : static_cast<std::uint32_t>(state));
  }
  [[nodiscard]] bool is_saving() const { return contract::in_saving_group(migration().state()); }
};

}  // namespace gangway::faulty
