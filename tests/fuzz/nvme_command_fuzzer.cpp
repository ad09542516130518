// Arbitrary commands and register accesses to an enabled controller: whatever a host sends, the controller neither
// crashes nor hangs, and answers the next good command or says that it is in a fatal state.
//
// The input is a list of steps: a byte that chooses, then its operands. Addresses in commands are bent to lie mostly in
// or near the host's memory, so that they get past the first check.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>

#include <gangway/endpoint.h>

#include "devices/nvme/controller.h"
#include "devices/nvme/registers.h"
#include "devices/nvme/spec.h"
#include "nvme_steps.h"

namespace {

using namespace gangway;
using namespace gangway::nvme;

constexpr std::uint64_t kBase = 0x10000;
constexpr std::size_t kMemory = 512U << 10;
constexpr std::uint64_t kImage = 1U << 20;
constexpr std::uint32_t kEnable = 1U | 6U << 16 | 4U << 20;

// Where things lie in the host's memory.
constexpr std::size_t kQueueStride = 0x4000;  // a submission queue, and its completion queue 0x2000 behind
constexpr std::uint16_t kEntries = 64;
constexpr std::uint16_t kIoQueues = 2;
constexpr std::size_t kData = 0x20000;

[[noreturn]] void die(const char* why) {
  std::fprintf(stderr, "nvme_command_fuzzer: %s\n", why);
  std::abort();
}

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  template <class T>
  T take() {
    T value{};
    const std::size_t count = std::min(sizeof(T), size_);
    std::memcpy(&value, data_, count);
    data_ += count;
    size_ -= count;
    return value;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

class Host {
 public:
  Host() {
    image_ = Fd(::memfd_create("image", MFD_CLOEXEC));
    other_image_ = Fd(::memfd_create("other image", MFD_CLOEXEC));
    memory_file_ = Fd(::memfd_create("memory", MFD_CLOEXEC));
    if (::ftruncate(image_.get(), kImage) != 0 || ::ftruncate(memory_file_.get(), kMemory) != 0) die("no memory");
    if (::ftruncate(other_image_.get(), kImage) != 0 || ::ftruncate(memory_file_.get(), kMemory) != 0) die("no memory");
    memory_ =
        static_cast<std::byte*>(::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED, memory_file_.get(), 0));
    const auto path = [](const Fd& file) { return "/proc/self/fd/" + std::to_string(file.get()); };
    auto controller =
        Controller::create({.namespaces = {{.path = path(image_)}, {.path = path(other_image_), .block_size = 4096}},
                            .io_queue_pairs = 4,
                            .spin = std::chrono::microseconds(200)});
    if (!controller) die(controller.error().message.c_str());
    auto endpoint = Endpoint::create(std::move(*controller), {});
    if (!endpoint) die(endpoint.error().message.c_str());
    endpoint_ = std::move(*endpoint);
    auto file = memory_file_.duplicate();
    if (!endpoint_->dma().map({.range = {{kBase}, kMemory},
                               .permissions = {.read = true, .write = true},
                               .file = std::move(*file),
                               .offset = 0})) {
      die("no mapping");
    }
  }

  void start() {
    if (!endpoint_->reset()) die("reset failed");
    std::memset(memory_, 0, kMemory);
    tails_ = {};
    write32(kRegisterAqa, (kEntries - 1U) << 16 | (kEntries - 1U));
    write32(kRegisterAsq, kBase);
    write32(kRegisterAcq, kBase + 0x2000);
    write32(kRegisterCc, kEnable);
    await([this] { return (status() & (kCstsReady | kCstsFatal)) != 0; });
    for (std::uint16_t id = 1; id <= kIoQueues; ++id) {
      const std::uint64_t base = kBase + (id * kQueueStride);
      submit(0, {.opcode = 5, .prp1 = base + 0x2000, .cdw10 = (kEntries - 1U) << 16 | id, .cdw11 = 3});
      submit(0,
             {.opcode = 1, .prp1 = base, .cdw10 = (kEntries - 1U) << 16 | id, .cdw11 = std::uint32_t{id} << 16 | 1U});
    }
  }

  void step(Input& input) {
    const auto what = input.take<std::uint8_t>();
    switch (static_cast<fuzz::NvmeStep>(what % 8)) {
      case fuzz::NvmeStep::AdminCommand:
      default:
        submit(0, bend(input.take<Command>()));
        break;
      case fuzz::NvmeStep::IoCommand:
      case fuzz::NvmeStep::MoreIoCommand:
        submit(static_cast<std::uint16_t>(1 + what / 8 % kIoQueues), bend(input.take<Command>()));
        break;
      case fuzz::NvmeStep::WriteRegister:
        write32(input.take<std::uint16_t>() & 0x3ffcU, input.take<std::uint32_t>());
        break;
      case fuzz::NvmeStep::RingDoorbell:
        write32(0x1000 + (input.take<std::uint8_t>() & 0x3cU), input.take<std::uint8_t>());
        break;
      case fuzz::NvmeStep::WriteMemory: {
        const auto offset = input.take<std::uint32_t>() % kMemory;
        const auto value = input.take<std::uint64_t>();
        std::memcpy(memory_ + std::min<std::size_t>(offset, kMemory - sizeof(value)), &value, sizeof(value));
        break;
      }
    }
  }

  // Whatever came before, a disabled controller comes back and works.
  void finish() {
    write32(kRegisterCc, 0);
    await([this] { return (status() & kCstsReady) == 0; });
    start();
    if ((status() & kCstsFatal) != 0) die("a controller that was disabled does not come back");
    const std::byte* entry = memory_ + 0x2000 + (4 * sizeof(Completion));
    submit(0, {.opcode = 0x0a, .cid = 0x77, .cdw10 = 6});
    await([&] {
      auto* last = reinterpret_cast<std::uint32_t*>(const_cast<std::byte*>(entry) + 12);
      return (std::atomic_ref(*last).load() & 0x1ffff) == (0x10000 | 0x77);
    });
  }

 private:
  void write32(std::uint64_t offset, std::uint32_t value) {
    (void)endpoint_->write(0, offset, std::as_bytes(std::span(&value, 1)));
  }
  [[nodiscard]] std::uint32_t status() const {
    std::uint32_t value = 0;
    (void)endpoint_->read(0, kRegisterCsts, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  void submit(std::uint16_t queue, const Command& command) {
    std::uint16_t& tail = tails_[queue];
    std::memcpy(memory_ + (queue * kQueueStride) + (tail * sizeof(Command)), &command, sizeof(command));
    tail = static_cast<std::uint16_t>((tail + 1) % kEntries);
    write32(0x1000 + (queue * 8U), tail);
  }
  static std::uint64_t bend(std::uint64_t address) {
    return (address & 1U << 20) != 0 ? address : kBase + kData + (address % kMemory);
  }
  static Command bend(Command command) {
    command.prp1 = bend(command.prp1);
    command.prp2 = bend(command.prp2);
    command.nsid = command.nsid % 5 == 4 ? 0xffff'ffff : command.nsid % 5;
    command.opcode = fuzz::nvme_opcode(command.opcode);
    if (command.cdw15 % 4 != 0) {
      command.flags = 0;
      command.cdw11 &= 0x000f'ffff;
      command.cdw12 &= 0xc200'007f;
    }
    return command;
  }
  template <class Done>
  static void await(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) die("the controller hangs");
      std::this_thread::yield();
    }
  }

  Fd image_;
  Fd other_image_;
  Fd memory_file_;
  std::byte* memory_ = nullptr;
  std::unique_ptr<Endpoint> endpoint_;
  std::array<std::uint16_t, kIoQueues + 1> tails_{};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static Host host;
  Input input(data, size);
  host.start();
  while (!input.empty()) host.step(input);
  host.finish();
  return 0;
}
