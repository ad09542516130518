// NVMe: 4 KiB random reads at depth 32 from the page cache. A polled driver on one core, the controller on the other;
// the floor is the same reads straight through io_uring on one core.
#include <fcntl.h>
#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <gangway/endpoint.h>

#include "devices/nvme/controller.h"
#include "devices/nvme/doorbells.h"
#include "devices/nvme/registers.h"
#include "devices/nvme/spec.h"
#include "measure.h"

using namespace gangway;
using namespace gangway::bench;
using namespace gangway::nvme;

namespace {

const std::uint64_t kImage = usually(256U << 20, 4U << 20);
constexpr std::uint32_t kBlock = 4096;
constexpr unsigned kDepth = 32;
const std::size_t kReads = usually(400'000, 200);
const int kRuns = usually(5, 1);

class Image {
 public:
  Image() : path_(std::filesystem::temp_directory_path() / ("gangway-nvme-bench-" + std::to_string(::getpid()))) {
    file_ = Fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    std::vector<std::byte> piece(1U << 20, std::byte{0x5a});
    for (std::uint64_t offset = 0; offset < kImage; offset += piece.size()) {
      if (::pwrite(file_.get(), piece.data(), piece.size(), static_cast<off_t>(offset)) < 0) std::exit(1);
    }
  }
  ~Image() { std::filesystem::remove(path_); }
  Image(const Image&) = delete;
  Image& operator=(const Image&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] int fd() const { return file_.get(); }

 private:
  std::filesystem::path path_;
  Fd file_;
};

double straight(const Image& image) {
  run_on({1});
  io_uring ring;
  if (io_uring_queue_init(kDepth * 2, &ring, IORING_SETUP_SINGLE_ISSUER) < 0) std::exit(1);
  const int fd = image.fd();
  io_uring_register_files(&ring, &fd, 1);
  std::vector<std::byte> memory(kDepth * kBlock);
  std::mt19937_64 random(1);
  const auto start = [&](std::size_t slot) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    io_uring_prep_read(entry, 0, memory.data() + (slot * kBlock), kBlock, random() % (kImage / kBlock) * kBlock);
    io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(entry, slot);
  };
  const auto began = Clock::now();
  for (std::size_t slot = 0; slot < kDepth; ++slot) start(slot);
  for (std::size_t done = 0; done < kReads;) {
    io_uring_submit_and_wait(&ring, 1);
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* completion = nullptr;
    io_uring_for_each_cqe(&ring, head, completion) {
      start(completion->user_data);
      ++count;
    }
    io_uring_cq_advance(&ring, count);
    done += count;
  }
  const double rate = static_cast<double>(kReads) / seconds_since(began);
  io_uring_queue_exit(&ring);
  return rate;
}

// A polled driver with one I/O queue pair, whose memory is laid out by hand.
class Host {
 public:
  Host(const Image& image, bool mapped) {
    run_on({1});  // the I/O thread inherits it
    auto controller = must(Controller::create({.namespaces = {{.path = image.path()}}, .mapped_doorbells = mapped}));
    endpoint_ = must(Endpoint::create(std::move(controller)));
    run_on({0});
    file_ = Fd(::memfd_create("host", MFD_CLOEXEC));
    if (::ftruncate(file_.get(), kMemory) != 0) std::exit(1);
    memory_ = static_cast<std::byte*>(
        ::mmap(nullptr, kMemory, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file_.get(), 0));
    must(endpoint_->dma().map({.range = {{kBase}, kMemory},
                               .permissions = {.read = true, .write = true},
                               .file = must(file_.duplicate()),
                               .offset = 0}));
    if (mapped) {
      const RegionInfo region = *endpoint_->region(0);
      page_ = static_cast<std::uint32_t*>(
          ::mmap(nullptr, kDoorbellPage, PROT_READ | PROT_WRITE, MAP_SHARED, region.file, kDoorbellOffset));
    }
    enable();
  }
  ~Host() {
    if (page_ != nullptr) ::munmap(page_, kDoorbellPage);
    endpoint_.reset();
    ::munmap(memory_, kMemory);
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  double read() {
    std::mt19937_64 random(1);
    const auto place = [&](std::uint16_t slot) {
      const Command command{.opcode = 2,
                            .cid = slot,
                            .nsid = 1,
                            .prp1 = kBase + kData + (std::uint64_t{slot} * kBlock),
                            .cdw10 = static_cast<std::uint32_t>(random() % (kImage / kBlock) * (kBlock / 512)),
                            .cdw12 = kBlock / 512 - 1};
      std::memcpy(memory_ + kIoSq + (tail_ * sizeof(Command)), &command, sizeof(command));
      tail_ = (tail_ + 1) % kEntries;
    };
    const auto began = Clock::now();
    for (std::uint16_t slot = 0; slot < kDepth; ++slot) place(slot);
    ring(sq_tail_word(1), tail_);
    for (std::size_t done = 0; done < kReads + kDepth;) {
      unsigned count = 0;
      while (const Completion* completion = next(kIoCq, kEntries)) {
        if (completion->status >> 1 != 0) std::exit(1);
        if (done + count + kDepth < kReads + kDepth) place(completion->cid);
        ++count;
      }
      if (count == 0) continue;
      done += count;
      ring(cq_head_word(1), head_);
      ring(sq_tail_word(1), tail_);
      if (done >= kReads) break;
    }
    return static_cast<double>(kReads) / seconds_since(began);
  }

 private:
  static constexpr std::uint64_t kBase = 1ULL << 32;
  static constexpr std::size_t kMemory = 16U << 20;
  static constexpr std::size_t kAdminCq = 0x1000;
  static constexpr std::size_t kIoCq = 0x2000;
  static constexpr std::size_t kIoSq = 0x4000;
  static constexpr std::size_t kData = 0x100000;
  static constexpr std::uint32_t kEntries = 64;

  void enable() {
    write32(kRegisterAqa, 31U << 16 | 31U);
    write32(kRegisterAsq, static_cast<std::uint32_t>(kBase));
    write32(kRegisterAsq + 4, static_cast<std::uint32_t>(kBase >> 32));
    write32(kRegisterAcq, static_cast<std::uint32_t>(kBase + kAdminCq));
    write32(kRegisterAcq + 4, static_cast<std::uint32_t>(kBase >> 32));
    write32(kRegisterCc, 1U | 6U << 16 | 4U << 20);
    while ((read32(kRegisterCsts) & kCstsReady) == 0) std::this_thread::yield();
    const std::array commands{
        Command{.opcode = 5, .prp1 = kBase + kIoCq, .cdw10 = (kEntries - 1) << 16 | 1U, .cdw11 = 1},
        Command{.opcode = 1, .prp1 = kBase + kIoSq, .cdw10 = (kEntries - 1) << 16 | 1U, .cdw11 = 1U << 16 | 1U}};
    std::memcpy(memory_, commands.data(), sizeof(commands));
    ring(sq_tail_word(0), commands.size());
    for (std::size_t count = 0; count < commands.size();) count += next(kAdminCq, 32) != nullptr ? 1 : 0;
    head_ = 0;
    phase_ = true;
  }
  const Completion* next(std::size_t queue, std::uint32_t entries) {
    std::byte* entry = memory_ + queue + (head_ * sizeof(Completion));
    const auto last = std::atomic_ref(*reinterpret_cast<std::uint32_t*>(entry + 12)).load(std::memory_order_acquire);
    if (((last >> 16 & 1U) != 0) != phase_) return nullptr;
    head_ = (head_ + 1) % entries;
    if (head_ == 0) phase_ = !phase_;
    return reinterpret_cast<const Completion*>(entry);
  }
  void write32(std::uint64_t offset, std::uint32_t value) {
    must(endpoint_->write(0, offset, std::as_bytes(std::span(&value, 1))));
  }
  std::uint32_t read32(std::uint64_t offset) {
    std::uint32_t value = 0;
    must(endpoint_->read(0, offset, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  void ring(std::size_t word, std::uint32_t value) {
    if (page_ != nullptr) {
      std::atomic_ref(page_[word]).store(value, std::memory_order_release);
    } else {
      write32(kDoorbellOffset + (word * 4), value);
    }
  }

  std::unique_ptr<Endpoint> endpoint_;
  Fd file_;
  std::byte* memory_ = nullptr;
  std::uint32_t* page_ = nullptr;
  std::uint32_t tail_ = 0;
  std::uint32_t head_ = 0;
  bool phase_ = true;
};

double through_controller(const Image& image, bool mapped) {
  Host host(image, mapped);
  return host.read();
}

}  // namespace

int main() {
  const Image image;
  report("nvme_random_read_4k_depth32_mapped_doorbells",
         alternate(kRuns, [&] { return through_controller(image, true); }, [&] { return straight(image); }), "reads/s");
  report(
      "nvme_random_read_4k_depth32_in_process_doorbells",
      alternate(kRuns, [&] { return through_controller(image, false); }, [&] { return straight(image); }), "reads/s");
  return 0;
}
