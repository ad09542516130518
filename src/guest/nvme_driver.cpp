#include "guest/nvme_driver.h"

#include <algorithm>
#include <bit>
#include <thread>

#include <fmt/format.h>

#include "base/bytes.h"

namespace gangway::guest {
namespace {

constexpr std::uint32_t kBar0 = to_number(RegionIndex::Bar0);
constexpr std::uint32_t kAdminEntries = 32;
constexpr std::chrono::milliseconds kCommandLimit{10'000};
constexpr std::uint32_t kNamespace = 1;

struct Capabilities {
  explicit Capabilities(std::uint64_t cap)
      : most_entries(static_cast<std::uint32_t>(cap & 0xffff) + 1),
        ready_limit(std::max<std::uint64_t>(cap >> 24 & 0xff, 10) * 500),
        doorbell_stride(4U << (cap >> 32 & 0xf)),
        smallest_page(1ULL << (12 + (cap >> 48 & 0xf))) {}
  std::uint32_t most_entries;
  std::chrono::milliseconds ready_limit;
  std::uint32_t doorbell_stride;
  std::uint64_t smallest_page;
};

}  // namespace

NvmeDriver::NvmeDriver(DeviceHandle& device, GuestMemory& memory, const DiskLayout& layout)
    : device_(device), memory_(memory), layout_(layout), state_(memory.object<NvmeState>(layout.driver)) {
  rings_.push_back({memory.objects<nvme::Command>(layout.admin_submission, kAdminEntries),
                    memory.objects<nvme::Completion>(layout.admin_completion, kAdminEntries)});
  for (const QueueLayout& queue : layout.queues) {
    rings_.push_back({memory.objects<nvme::Command>(queue.submission, queue.entries),
                      memory.objects<nvme::Completion>(queue.completion, queue.entries)});
  }
}

Result<void> NvmeDriver::start() {
  *state_ = NvmeState{};
  state_->io_queues = static_cast<std::uint32_t>(layout_.queues.size());
  for (const Ring& ring : rings_) {
    std::ranges::fill(ring.completion, nvme::Completion{});
    memory_.note_write(ring.completion.data(), ring.completion.size_bytes());
  }
  memory_.note_write(*state_);
  if (auto enabled = enable(); !enabled) return fail_within("enable the controller", enabled.error());
  if (auto identified = identify(); !identified) return fail_within("identify", identified.error());
  if (auto made = make_queues(); !made) return fail_within("make the I/O queues", made.error());
  return {};
}

Result<void> NvmeDriver::enable() {
  const auto low = read_register(nvme::kCap);
  if (!low) return std::unexpected(low.error());
  const auto high = read_register(nvme::kCap + 4);
  if (!high) return std::unexpected(high.error());
  const Capabilities capabilities(std::uint64_t{*high} << 32 | *low);
  if (capabilities.smallest_page > kPageSize) return fail(ENOTSUP, "it knows no pages of 4096 bytes");
  for (const QueueLayout& queue : layout_.queues) {
    if (queue.entries <= capabilities.most_entries) continue;
    return fail(EINVAL,
                fmt::format("queues of {} entries: it takes {} at most", queue.entries, capabilities.most_entries));
  }
  if (auto disabled = write_register(nvme::kCc, 0); !disabled) return disabled;
  if (auto idle = wait_ready(false, capabilities.ready_limit); !idle) return idle;

  state_->doorbell_stride = capabilities.doorbell_stride;
  auto doorbells = Doorbells::find(device_, static_cast<std::uint32_t>(rings_.size()), capabilities.doorbell_stride);
  if (!doorbells) return std::unexpected(doorbells.error());
  doorbells_ = std::move(*doorbells);

  if (auto set = write_register(nvme::kAqa, (kAdminEntries - 1) << 16 | (kAdminEntries - 1)); !set) return set;
  if (auto set = write_register64(nvme::kAsq, layout_.admin_submission.value); !set) return set;
  if (auto set = write_register64(nvme::kAcq, layout_.admin_completion.value); !set) return set;
  if (auto set = write_register(nvme::kCc, nvme::kCcEntrySizes | nvme::kCcEnable); !set) return set;
  return wait_ready(true, capabilities.ready_limit);
}

Result<void> NvmeDriver::identify() {
  nvme::Command command{.prp1 = layout_.identify.value, .dword10 = nvme::kIdentifyController};
  if (auto done = run_admin(nvme::AdminOpcode::Identify, command); !done) return std::unexpected(done.error());
  const auto data = memory_.at(layout_.identify, kPageSize);
  const auto transfer_exponent = std::to_integer<unsigned>(data[77]);  // MDTS, in pages of the smallest size; 0: any
  const std::uint64_t buffer = layout_.queues.empty() ? 0 : kMaxBlockSize;
  if (transfer_exponent != 0 && transfer_exponent < 16 && (kPageSize << transfer_exponent) < buffer) {
    return fail(ENOTSUP, fmt::format("it transfers {} bytes at most in a command; {} are needed",
                                     kPageSize << transfer_exponent, buffer));
  }

  command = {.namespace_id = kNamespace, .prp1 = layout_.identify.value, .dword10 = nvme::kIdentifyNamespace};
  if (auto done = run_admin(nvme::AdminOpcode::Identify, command); !done) return std::unexpected(done.error());
  const std::uint64_t size = load_at<std::uint64_t>(data, 0).value_or(0);              // NSZE
  const std::size_t format = std::to_integer<std::size_t>(data[26] & std::byte{0xf});  // FLBAS
  const std::uint32_t lba_format = load_at<std::uint32_t>(data, 128 + 4 * format).value_or(0);
  const std::uint32_t shift = lba_format >> 16 & 0xff;
  if (shift < 9 || shift > 12 || (lba_format & 0xffff) != 0 || size == 0 || size > (1ULL << 50)) {
    return fail(ENOTSUP, fmt::format("namespace {}: {} blocks of 2^{} bytes with {} bytes of metadata", kNamespace,
                                     size, shift, lba_format & 0xffff));
  }
  state_->logical_blocks = size;
  state_->block_shift = shift;
  memory_.note_write(*state_);
  return {};
}

Result<void> NvmeDriver::make_queues() {
  const auto count = static_cast<std::uint32_t>(layout_.queues.size());
  const nvme::Command command{.dword10 = nvme::kFeatureQueues, .dword11 = (count - 1) << 16 | (count - 1)};
  const auto granted = run_admin(nvme::AdminOpcode::SetFeatures, command);
  if (!granted) return std::unexpected(granted.error());
  if ((*granted & 0xffff) + 1 < count || (*granted >> 16) + 1 < count) {
    return fail(ENOSPC, fmt::format("it grants {} submission and {} completion queues; {} are wanted",
                                    (*granted & 0xffff) + 1, (*granted >> 16) + 1, count));
  }
  const auto vectors = device_.irq(to_number(IrqType::Msix));
  if (!vectors) return std::unexpected(vectors.error());
  for (std::uint32_t queue = 1; queue <= count; ++queue) {
    if (auto made = make_queue(queue, vectors->count > queue); !made) {
      return fail_within(fmt::format("queue pair {}", queue), made.error());
    }
  }
  return {};
}

Result<void> NvmeDriver::make_queue(std::uint32_t queue, bool interrupts) {
  const QueueLayout& layout = layout_.queues[queue - 1];
  const std::uint32_t name = (layout.entries - 1) << 16 | queue;
  // Physically contiguous; interrupts on vector `queue`, which nobody needs to wait for.
  const std::uint32_t completion_flags = 1U | (interrupts ? 2U | queue << 16 : 0U);
  const nvme::Command completion{.prp1 = layout.completion.value, .dword10 = name, .dword11 = completion_flags};
  if (auto made = run_admin(nvme::AdminOpcode::CreateCompletion, completion); !made) {
    return std::unexpected(made.error());
  }
  const nvme::Command submission{.prp1 = layout.submission.value, .dword10 = name, .dword11 = 1U | queue << 16};
  if (auto made = run_admin(nvme::AdminOpcode::CreateSubmission, submission); !made) {
    return std::unexpected(made.error());
  }
  return {};
}

Result<void> NvmeDriver::attach() {
  const NvmeState state = *state_;
  if (state.magic != NvmeState::kMagic || state.io_queues != layout_.queues.size()) {
    return fail(EBADMSG, "the memory holds no driver with these queues");
  }
  if (state.doorbell_stride < 4 || state.doorbell_stride > (4U << 15) || !std::has_single_bit(state.doorbell_stride) ||
      state.block_shift < 9 || state.block_shift > 12 || state.logical_blocks > (1ULL << 50)) {
    return fail(EBADMSG, "the driver's state does not describe a controller");
  }
  for (std::size_t ring = 0; ring < rings_.size(); ++ring) {
    const RingState& saved = state.rings[ring];
    const std::size_t entries = rings_[ring].submission.size();
    if (saved.tail >= entries || saved.head >= entries || saved.phase > 1) {
      return fail(EBADMSG, fmt::format("queue pair {} of {} entries: tail {}, head {}, phase {}", ring, entries,
                                       saved.tail, saved.head, saved.phase));
    }
  }
  auto doorbells = Doorbells::find(device_, static_cast<std::uint32_t>(rings_.size()), state.doorbell_stride);
  if (!doorbells) return std::unexpected(doorbells.error());
  doorbells_ = std::move(*doorbells);
  return {};
}

Result<std::uint32_t> NvmeDriver::run_admin(nvme::AdminOpcode opcode, nvme::Command command) {
  command.opcode = static_cast<std::uint8_t>(opcode);
  put(0, command);
  if (auto rung = announce(0); !rung) return std::unexpected(rung.error());
  const auto deadline = std::chrono::steady_clock::now() + kCommandLimit;
  while (true) {
    if (const auto completion = take(0)) {
      if (auto rung = acknowledge(0); !rung) return std::unexpected(rung.error());
      if (completion->status() == 0) return completion->result;
      return fail(EIO, fmt::format("admin command {:#04x}: status {:#x}", command.opcode, completion->status()));
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(ETIMEDOUT, fmt::format("admin command {:#04x}: no completion within {} ms", command.opcode,
                                         kCommandLimit.count()));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

Result<void> NvmeDriver::wait_ready(bool ready, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (true) {
    const auto status = read_register(nvme::kCsts);
    if (!status) return std::unexpected(status.error());
    // A controller that is being disabled may still show the failure that it is disabled for.
    if (ready && (*status & nvme::kCstsFatal) != 0) return fail(EIO, "the controller reports a fatal error (CSTS.CFS)");
    if (((*status & nvme::kCstsReady) != 0) == ready) return {};
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(ETIMEDOUT, fmt::format("CSTS.RDY is not {} within {} ms", ready ? 1 : 0, limit.count()));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

Result<std::uint32_t> NvmeDriver::read_register(std::uint64_t offset) {
  std::uint32_t value = 0;
  if (auto read = device_.read(kBar0, offset, std::as_writable_bytes(std::span(&value, 1))); !read) {
    return fail_within(fmt::format("register {:#x}", offset), read.error());
  }
  return value;
}

Result<void> NvmeDriver::write_register(std::uint64_t offset, std::uint32_t value) {
  if (auto written = device_.write(kBar0, offset, bytes_of(value)); !written) {
    return fail_within(fmt::format("register {:#x}", offset), written.error());
  }
  return {};
}

Result<void> NvmeDriver::write_register64(std::uint64_t offset, std::uint64_t value) {
  if (auto low = write_register(offset, static_cast<std::uint32_t>(value)); !low) return low;
  return write_register(offset + 4, static_cast<std::uint32_t>(value >> 32));
}

void NvmeDriver::put(std::uint32_t ring, const nvme::Command& command) {
  RingState& state = state_->rings[ring];
  const auto submission = rings_[ring].submission;
  nvme::Command& entry = submission[state.tail % submission.size()];
  entry = command;
  state.tail = static_cast<std::uint32_t>((state.tail + 1) % submission.size());
  memory_.note_write(entry);
  memory_.note_write(state);
}

std::optional<nvme::Completion> NvmeDriver::take(std::uint32_t ring) {
  RingState& state = state_->rings[ring];
  const auto entries = rings_[ring].completion;
  nvme::Completion& entry = entries[state.head % entries.size()];
  // The controller writes the phase last; what precedes it in the entry is there once it is seen.
  nvme::Completion completion;
  completion.id_and_status = std::atomic_ref(entry.id_and_status).load(std::memory_order_acquire);
  if (completion.phase() != state.phase) return std::nullopt;
  completion.result = std::atomic_ref(entry.result).load(std::memory_order_relaxed);
  state.head = static_cast<std::uint32_t>((state.head + 1) % entries.size());
  if (state.head == 0) state.phase ^= 1U;
  memory_.note_write(state);
  return completion;
}

}  // namespace gangway::guest
