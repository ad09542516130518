#include "integration/faulty/bench.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace gangway::faulty {
namespace {

template <class T>
T set_up(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

std::filesystem::path temporary_directory() {
  std::string name = (std::filesystem::temp_directory_path() / "gangway-faulty-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp " + name + " failed");
  return name;
}

}  // namespace

Bench::Bench(const Defect* defect, const Options& options)
    : directory_(temporary_directory()),
      endpoint_(set_up(FaultyEndpoint::create(defect, {.flags = options.flags, .revisions = options.revisions}))),
      options_{.timeout = options.timeout, .spin = std::chrono::microseconds(0)},
      file_(::memfd_create("memory", MFD_CLOEXEC)) {
  if (!file_ || ::ftruncate(file_.get(), static_cast<off_t>(kRange.size)) != 0) throw std::runtime_error("memfd");
  void* const mapped = ::mmap(nullptr, kRange.size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  if (mapped == MAP_FAILED) throw std::runtime_error("mmap");
  memory_ = {static_cast<std::byte*>(mapped), kRange.size};
  const ServerOptions served{.spin = std::chrono::microseconds(0)};
  const WireFault fault = defect != nullptr ? defect->parts.wire : WireFault::None;
  if (fault != WireFault::None) {
    wire_ = set_up(FaultyWire::serve(directory_ / "socket", *endpoint_, fault, served));
  } else {
    server_ = set_up(Server::listen(directory_ / "socket", *endpoint_, served));
    set_up(server_->start());
  }
  reopen();
}

Bench::~Bench() {
  device_.reset();
  endpoint_->release();
  server_.reset();
  wire_.reset();
  endpoint_.reset();
  ::munmap(memory_.data(), memory_.size());
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void Bench::reopen() {
  device_.reset();
  device_ = set_up(open_device("vfio-user:" + (directory_ / "socket").string(), options_));
}

conformance::WirePeer Bench::connect_by_hand(std::uint32_t max_data_xfer_size) {
  device_.reset();
  auto peer = set_up(conformance::WirePeer::connect((directory_ / "socket").string(), options_.timeout));
  const std::string limits = R"("max_msg_fds":8,"max_data_xfer_size":)" + std::to_string(max_data_xfer_size);
  need(peer.negotiate(R"({"capabilities":{)" + limits + "}}"), "negotiate");
  return peer;
}

Bytes Bench::read_all(std::size_t piece) {
  constexpr std::size_t kMost = 16 * kMemorySize;  // a stream without end is wrong, too
  Bytes stream;
  for (;;) {
    const std::size_t before = stream.size();
    right(before < kMost, "the stream does not end");
    stream.resize(before + piece);
    const StreamRead read = need(device_->read_data(std::span(stream).subspan(before)), "read migration data");
    stream.resize(before + read.size);
    if (read.end != StreamEnd::More) return stream;
  }
}

StreamRead Bench::read_once(std::size_t size) {
  Bytes room(size);
  return need(device_->read_data(room), "read migration data");
}

Bytes Bench::save() {
  go(DeviceState::StopCopy);
  return read_all();
}

void Bench::write(std::span<const std::byte> stream, std::size_t piece) {
  for (; !stream.empty(); stream = stream.subspan(std::min(piece, stream.size()))) {
    need(device_->write_data(stream.first(std::min(piece, stream.size()))), "write migration data");
  }
}

void Bench::load(std::span<const std::byte> stream) {
  go(DeviceState::Resuming);
  write(stream);
  go(DeviceState::Stop);
}

void Bench::map() { need(device_->dma_map({.range = kRange, .memory = memory_, .file = file_.get()}), "map"); }

void Bench::start_job(std::uint32_t first, std::uint32_t pieces, std::uint32_t pace_us) {
  map();
  set64(kDmaAddress, kBase + first * kPage);
  set32(kDmaLength, kPage);
  set32(kDmaWindow, pieces);
  set32(kDmaPieces, pieces);
  set32(kPace, pace_us);
  set32(kPattern, 1);
  set32(kKick, 1);
}

// Asks until it is so; the test's own time limit bounds it.
void Bench::await_pieces(std::uint64_t count) {
  while (get64(kDmaDone) < count) {
    const std::uint32_t status = get32(kStatus);
    right(status == kStatusBusy || get64(kDmaDone) >= count, "the job ended early");
  }
}

void Bench::run_job(std::uint32_t first, std::uint32_t pieces) {
  start_job(first, pieces);
  await_pieces(pieces);
}

bool Bench::memory_moves() {
  constexpr int kRoundTrips = 20'000;
  const std::atomic_ref word(*reinterpret_cast<std::uint32_t*>(memory_.data()));
  const std::uint32_t before = word.load();
  for (int i = 0; i < kRoundTrips; ++i) {
    if (word.load() != before) return true;
    std::ignore = get32(kIdent);
  }
  return false;
}

std::uint64_t Bench::log_report(IovaRange range, std::uint64_t page_size) {
  std::uint64_t bitmap = 0;
  need(device_->dma_logging_report(range, page_size, std::span(&bitmap, 1)), "report the log");
  return bitmap;
}

void Bench::connect_interrupts() {
  IrqSet request{.type = IrqType::Msi, .data = IrqSet::Data::Eventfd, .start = 0, .count = kVectors};
  events_.clear();
  for (std::size_t vector = 0; vector < kVectors; ++vector) {
    events_.emplace_back(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    request.eventfds.emplace_back(::dup(events_.back().get()));
  }
  need(device_->set_irqs(std::move(request)), "set the interrupts");
}

bool Bench::interrupted(std::size_t vector) {
  std::uint64_t count = 0;
  return ::read(events_[vector].get(), &count, sizeof count) == sizeof count;
}

}  // namespace gangway::faulty
