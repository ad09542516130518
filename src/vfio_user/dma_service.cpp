#include "vfio_user/dma_service.h"

#include <algorithm>
#include <array>
#include <atomic>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/log.h"

namespace gangway::vfio_user {
namespace {

using Word = std::uint32_t;

bool holds_words(std::span<const std::byte> memory) {
  return memory.size() >= sizeof(Word) && memory.size() % sizeof(Word) == 0 &&
         reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(Word) == 0;
}

// A host looks at memory while the device is at it. What a device reads begins with the word that says whether the rest
// is there (a shadow doorbell is nothing else), and what it writes ends with it (the phase of a completion).
void copy_out(std::span<std::byte> memory, std::span<std::byte> out) {
  if (!holds_words(memory)) {
    std::ranges::copy(memory, out.begin());
    return;
  }
  const Word first = std::atomic_ref(*reinterpret_cast<Word*>(memory.data())).load(std::memory_order_acquire);
  (void)store_at(out, 0, first);
  std::ranges::copy(memory.subspan(sizeof first), out.subspan(sizeof first).begin());
}

void copy_in(std::span<const std::byte> data, std::span<std::byte> memory) {
  if (!holds_words(memory)) {
    std::ranges::copy(data, memory.begin());
    return;
  }
  const std::size_t last = memory.size() - sizeof(Word);
  std::ranges::copy(data.first(last), memory.begin());
  std::atomic_ref(*reinterpret_cast<Word*>(&memory[last])).store(*load_at<Word>(data, last), std::memory_order_release);
}

}  // namespace

DmaService::~DmaService() {
  if (thread_.joinable()) thread_.join();
}

bool DmaService::add(Iova iova, std::span<std::byte> memory, DmaPermissions permissions) {
  const std::scoped_lock lock(mutex_);
  if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
  return mappings_.try_emplace(iova.value, Mapping{memory, permissions}).second;
}

void DmaService::remove(Iova iova) {
  const std::scoped_lock lock(mutex_);
  mappings_.erase(iova.value);
}

void DmaService::remove_all() {
  const std::scoped_lock lock(mutex_);
  mappings_.clear();
}

void DmaService::serve() {
  Message message;
  while (channel_.next(message)) {
    if (const Result<void> answered = answer(message); !answered) {
      log::debug("refused: {}", answered.error().message);
      (void)channel_.refuse(message, answered.error().code);
    }
    message.fds.clear();
  }
}

Result<void> DmaService::answer(Message& message) {
  const Command command = message.command();
  if (command != Command::DmaRead && command != Command::DmaWrite) {
    return fail(ENOTSUP, fmt::format("command {}: a client answers DMA_READ and DMA_WRITE", message.header.command),
                "WIR-FRAME");
  }
  const std::span<const std::byte> body = message.body.bytes();
  const std::optional<DmaAccessMessage> access = load_at<DmaAccessMessage>(body);
  if (!access) return fail(EINVAL, "DMA message without address and count", "WIR-FRAME");
  if (access->count > max_transfer_) {
    return fail(EINVAL, fmt::format("DMA message for {} bytes, at most {} are served", access->count, max_transfer_));
  }
  Result<void> done = command == Command::DmaRead ? read(*access) : write(*access, body.subspan(sizeof *access));
  if (!done) return done;
  const std::array pieces{bytes_of(*access), std::span<const std::byte>(data_.bytes())};
  const std::size_t count = command == Command::DmaRead ? 2 : 1;
  (void)channel_.reply(message, {std::span(pieces).first(count), {}});  // a failure to send ends next()
  return {};
}

// Copied, since the reply may take long to send and remove() must not.
Result<void> DmaService::read(const DmaAccessMessage& access) {
  const std::scoped_lock lock(mutex_);
  const Result<std::span<std::byte>> memory = find(access, DmaAccess::Read);
  if (!memory) return std::unexpected(memory.error());
  copy_out(*memory, data_.resize(memory->size()));
  return {};
}

Result<void> DmaService::write(const DmaAccessMessage& access, std::span<const std::byte> data) {
  if (data.size() != access.count) {
    return fail(EINVAL, fmt::format("DMA_WRITE of {} bytes came with {}", access.count, data.size()), "WIR-FRAME");
  }
  const std::scoped_lock lock(mutex_);
  const Result<std::span<std::byte>> memory = find(access, DmaAccess::Write);
  if (!memory) return std::unexpected(memory.error());
  copy_in(data, *memory);
  return {};
}

Result<std::span<std::byte>> DmaService::find(const DmaAccessMessage& access, DmaAccess kind) {
  const auto refuse = [&](std::string_view why) {
    return fail(EFAULT, fmt::format("DMA message for {} bytes at {:#x}: {}", access.count, access.address, why));
  };
  const auto after = mappings_.upper_bound(access.address);
  if (after == mappings_.begin()) return refuse("not mapped");
  const auto& [start, mapping] = *std::prev(after);
  const std::uint64_t offset = access.address - start;
  if (offset > mapping.memory.size() || mapping.memory.size() - offset < access.count) return refuse("not mapped");
  if (kind == DmaAccess::Read ? !mapping.permissions.read : !mapping.permissions.write) return refuse("not permitted");
  return mapping.memory.subspan(offset, access.count);
}

}  // namespace gangway::vfio_user
