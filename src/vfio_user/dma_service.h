// Answers a server's DMA_READ and DMA_WRITE from the client's memory, on a thread of its own.
//
// Thread-safety: everything may be called from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <thread>

#include <gangway/dma.h>
#include <gangway/error.h>
#include <gangway/types.h>

#include "vfio_user/channel.h"

namespace gangway::vfio_user {

class DmaService {
 public:
  // One message transfers at most `max_transfer` bytes, which we told the server.
  DmaService(Channel& channel, std::uint32_t max_transfer) : channel_(channel), max_transfer_(max_transfer) {}
  // The channel must be broken.
  ~DmaService();

  // From here `memory` may be accessed by the server, until remove() returned.
  // False, and nothing added, when something is there already: the server is going to refuse the mapping.
  bool add(Iova iova, std::span<std::byte> memory, DmaPermissions permissions);
  void remove(Iova iova);
  void remove_all();

 private:
  struct Mapping {
    std::span<std::byte> memory;
    DmaPermissions permissions;
  };

  void serve();
  Result<void> answer(Message& message);
  Result<void> read(const DmaAccessMessage& access);
  Result<void> write(const DmaAccessMessage& access, std::span<const std::byte> data);
  Result<std::span<std::byte>> find(const DmaAccessMessage& access, DmaAccess kind);

  Channel& channel_;
  const std::uint32_t max_transfer_;
  std::mutex mutex_;
  std::map<std::uint64_t, Mapping> mappings_;
  Buffer data_;
  std::thread thread_;
};

}  // namespace gangway::vfio_user
