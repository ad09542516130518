// What both ends must agree on before anything is sent: SETUP's payload.
//
// Payload: u64 page size, u32 flags (1: page checksums), u32 blocks, u32 devices; each block: u64 iova, u64 size, u32
// length of its name, the name; each device: u64 migration flags, u32 length of its id, the id.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <gangway/contract.h>
#include <gangway/error.h>

#include "migrate/machine.h"

namespace gangway::migrate {

inline constexpr std::size_t kMaxBlocks = 256;
inline constexpr std::size_t kMaxDevices = 256;
inline constexpr std::size_t kMaxName = 64;  // bytes

struct Setup {
  struct Block {
    std::string name;
    IovaRange iova;
    friend bool operator==(const Block&, const Block&) = default;
  };
  struct Device {
    std::string id;
    std::uint64_t flags = 0;  // MigrationFlags::bits()
    friend bool operator==(const Device&, const Device&) = default;
  };
  bool page_checksums = false;
  std::vector<Block> blocks;
  std::vector<Device> devices;
};

// Asks the devices for their flags. EINVAL for a machine whose memory or names do not fit the protocol.
Result<Setup> describe(const Machine& machine);

std::vector<std::byte> encode(const Setup& setup);
Result<Setup> decode_setup(std::span<const std::byte> payload);

// EINVAL with the first difference.
Result<void> check_same(const Setup& source, const Setup& here);

}  // namespace gangway::migrate
