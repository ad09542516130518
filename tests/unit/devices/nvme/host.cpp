#include "unit/devices/nvme/host.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace gangway::nvme::test {
namespace {

constexpr std::chrono::seconds kPatience{60};  // before a wait is called hopeless

template <class Done>
bool wait_until(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace

TemporaryImage::TemporaryImage(std::uint64_t size) {
  std::string name = (std::filesystem::temp_directory_path() / "gangway-nvme-XXXXXX").string();
  const Fd file(::mkstemp(name.data()));
  EXPECT_TRUE(file);
  path_ = name;
  truncate(size);
}

TemporaryImage::~TemporaryImage() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

void TemporaryImage::truncate(std::uint64_t size) const {
  EXPECT_EQ(::truncate(path_.c_str(), static_cast<off_t>(size)), 0);
}

void TemporaryImage::write(std::uint64_t offset, std::span<const std::byte> bytes) const {
  const Fd file(::open(path_.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)),
            static_cast<ssize_t>(bytes.size()));
}

std::vector<std::byte> TemporaryImage::read(std::uint64_t offset, std::size_t size) const {
  std::vector<std::byte> bytes(size);
  const Fd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(::pread(file.get(), bytes.data(), size, static_cast<off_t>(offset)), static_cast<ssize_t>(size));
  return bytes;
}

std::uint64_t TemporaryImage::allocated() const {
  struct stat status{};
  EXPECT_EQ(::stat(path_.c_str(), &status), 0);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

HostRam::HostRam(std::size_t size) : file_(::memfd_create("host-ram", MFD_CLOEXEC)) {
  EXPECT_EQ(::ftruncate(file_.get(), static_cast<off_t>(size)), 0);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
  EXPECT_NE(memory, MAP_FAILED);
  memory_ = {static_cast<std::byte*>(memory), size};
}

HostRam::~HostRam() { ::munmap(memory_.data(), memory_.size()); }

void HostRam::map_into(DmaSpace& dma) const {
  auto file = file_.duplicate();
  ASSERT_TRUE(file);
  const auto mapped = dma.map({.range = {{kBase}, memory_.size()},
                               .permissions = {.read = true, .write = true},
                               .file = std::move(*file),
                               .offset = 0});
  ASSERT_TRUE(mapped) << mapped.error().message;
}

Iova HostRam::allocate(std::size_t size, std::size_t alignment) {
  used_ = (used_ + alignment - 1) / alignment * alignment;
  const Iova iova{kBase + used_};
  used_ += size;
  EXPECT_LE(used_, memory_.size());
  return iova;
}

std::span<std::byte> HostRam::at(Iova iova, std::size_t size) const {
  return memory_.subspan(iova.value - kBase, size);
}

void HostRam::fill(Iova iova, std::size_t size, std::byte value) const { std::ranges::fill(at(iova, size), value); }

Status status_of(const Completion& completion) { return static_cast<Status>(completion.status >> 1 & 0x7ff); }

Command io_command(IoOpcode opcode, std::uint64_t block, std::uint32_t blocks, Iova data, std::uint32_t nsid) {
  return {.opcode = static_cast<std::uint8_t>(opcode),
          .nsid = nsid,
          .prp1 = data.value,
          .prp2 = (data.value | 0xfff) + 1,
          .cdw10 = static_cast<std::uint32_t>(block),
          .cdw11 = static_cast<std::uint32_t>(block >> 32),
          .cdw12 = blocks - 1};
}

Command admin_command(AdminOpcode opcode, std::uint32_t cdw10, std::uint32_t cdw11) {
  return {.opcode = static_cast<std::uint8_t>(opcode), .cdw10 = cdw10, .cdw11 = cdw11};
}

std::uint32_t Driver::read32(std::uint64_t offset) const {
  std::uint32_t value = 0;
  const auto read = endpoint_->read(0, offset, std::as_writable_bytes(std::span(&value, 1)));
  EXPECT_TRUE(read) << read.error().message;
  return value;
}

std::uint64_t Driver::read64(std::uint64_t offset) const {
  return std::uint64_t{read32(offset + 4)} << 32 | read32(offset);
}

Result<void> Driver::write32(std::uint64_t offset, std::uint32_t value) const {
  return endpoint_->write(0, offset, std::as_bytes(std::span(&value, 1)));
}

Result<void> Driver::write64(std::uint64_t offset, std::uint64_t value) const {
  return endpoint_->write(0, offset, std::as_bytes(std::span(&value, 1)));
}

bool Driver::wait_status(std::uint32_t mask, std::uint32_t value) const {
  return wait_until([&] { return (read32(kRegisterCsts) & mask) == value; });
}

std::uint32_t Driver::enable(std::uint16_t admin_size, std::uint32_t cc) {
  pairs_.clear();
  QueuePair admin{.id = 0,
                  .size = admin_size,
                  .sq = ram_->allocate(admin_size * sizeof(Command), 65536),
                  .cq = ram_->allocate(admin_size * sizeof(Completion), 65536)};
  ram_->fill(admin.cq, admin_size * sizeof(Completion), std::byte{0});
  EXPECT_TRUE(write32(kRegisterAqa, (admin_size - 1U) << 16 | (admin_size - 1U)));
  EXPECT_TRUE(write64(kRegisterAsq, admin.sq.value));
  EXPECT_TRUE(write64(kRegisterAcq, admin.cq.value));
  pairs_[0] = admin;
  EXPECT_TRUE(write32(kRegisterCc, cc));
  wait_until([this] { return (read32(kRegisterCsts) & (kCstsReady | kCstsFatal)) != 0; });
  return read32(kRegisterCsts);
}

std::uint32_t Driver::disable() {
  EXPECT_TRUE(write32(kRegisterCc, read32(kRegisterCc) & ~1U));
  wait_status(kCstsReady, 0);
  return read32(kRegisterCsts);
}

Command Driver::create_cq_command(std::uint16_t id, std::uint16_t size, std::uint16_t vector, Iova base) const {
  Command command =
      admin_command(AdminOpcode::CreateCompletionQueue, (size - 1U) << 16 | id, std::uint32_t{vector} << 16 | 3U);
  command.prp1 = base.value;
  return command;
}

Command Driver::create_sq_command(std::uint16_t id, std::uint16_t size, std::uint16_t cq, Iova base) const {
  Command command =
      admin_command(AdminOpcode::CreateSubmissionQueue, (size - 1U) << 16 | id, std::uint32_t{cq} << 16 | 1U);
  command.prp1 = base.value;
  return command;
}

Status Driver::create_pair(std::uint16_t id, std::uint16_t size, std::uint16_t vector) {
  QueuePair made{.id = id,
                 .size = size,
                 .sq = ram_->allocate(size * sizeof(Command)),
                 .cq = ram_->allocate(size * sizeof(Completion))};
  ram_->fill(made.cq, size * sizeof(Completion), std::byte{0});
  if (const Status status = status_of(admin(create_cq_command(id, size, vector, made.cq))); status != Status::Success) {
    return status;
  }
  pairs_[id] = made;
  return status_of(admin(create_sq_command(id, size, id, made.sq)));
}

std::uint16_t Driver::place(std::uint16_t queue, Command command) {
  QueuePair& pair = pairs_.at(queue);
  command.cid = next_cid_++;
  ram_->put(pair.sq + (pair.tail * sizeof(Command)), command);
  pair.tail = static_cast<std::uint16_t>((pair.tail + 1) % pair.size);
  return command.cid;
}

void Driver::ring(std::uint16_t queue) {
  const auto rung = write32(0x1000 + (queue * 8U), pairs_.at(queue).tail);
  EXPECT_TRUE(rung) << rung.error().message;
}

void Driver::ring_head(std::uint16_t queue) {
  const auto rung = write32(0x1004 + (queue * 8U), pairs_.at(queue).head);
  EXPECT_TRUE(rung) << rung.error().message;
}

std::uint16_t Driver::submit(std::uint16_t queue, Command command) {
  const std::uint16_t cid = place(queue, command);
  ring(queue);
  return cid;
}

std::optional<Completion> Driver::poll(std::uint16_t queue, bool rings_head) {
  QueuePair& pair = pairs_.at(queue);
  const Iova at = pair.cq + (pair.head * sizeof(Completion));
  auto& last = *reinterpret_cast<std::uint32_t*>(ram_->at(at + 12, 4).data());
  const std::uint32_t word = std::atomic_ref(last).load(std::memory_order_acquire);
  if (((word >> 16 & 1U) != 0) != pair.phase) return std::nullopt;
  const auto completion = ram_->get<Completion>(at);
  pair.head = static_cast<std::uint16_t>((pair.head + 1) % pair.size);
  if (pair.head == 0) pair.phase = !pair.phase;
  if (rings_head) ring_head(queue);
  return completion;
}

std::optional<Completion> Driver::wait(std::uint16_t queue) {
  std::optional<Completion> completion;
  wait_until([&] { return (completion = poll(queue)).has_value(); });
  return completion;
}

Completion Driver::run(std::uint16_t queue, Command command) {
  const std::uint16_t cid = submit(queue, command);
  const auto completion = wait(queue);
  EXPECT_TRUE(completion) << "no completion came";
  if (!completion) return {.status = 0xffff};
  EXPECT_EQ(completion->cid, cid);
  return *completion;
}

Result<std::unique_ptr<Endpoint>> serve(const TemporaryImage& image, ControllerOptions options,
                                        EndpointOptions endpoint) {
  if (options.namespaces.empty()) options.namespaces.push_back({.path = image.path()});
  for (NamespaceOptions& space : options.namespaces) {
    if (space.path.empty()) space.path = image.path();
  }
  auto controller = Controller::create(std::move(options));
  if (!controller) return std::unexpected(controller.error());
  return Endpoint::create(std::move(*controller), endpoint);
}

Rig::Rig(ControllerOptions options, std::uint64_t image_size, EndpointOptions endpoint_options)
    : image(std::make_unique<TemporaryImage>(image_size)),
      endpoint([&] {
        auto made = serve(*image, std::move(options), endpoint_options);
        EXPECT_TRUE(made) << made.error().message;
        return std::move(*made);
      }()),
      driver(*endpoint, ram) {
  ram.map_into(endpoint->dma());
}

std::vector<std::byte> pattern(std::size_t size, std::uint32_t seed) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = seed * 0x9e37'79b9'7f4a'7c15ULL + 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

void to_state(Endpoint& endpoint, DeviceState state) {
  const auto set = endpoint.migration()->set_state(static_cast<std::uint32_t>(state));
  ASSERT_TRUE(set) << contract::name(state) << ": " << set.error().message;
}

std::vector<std::byte> save(Endpoint& endpoint) {
  to_state(endpoint, DeviceState::StopCopy);
  std::vector<std::byte> stream;
  for (;;) {
    std::array<std::byte, 4096> piece;
    const auto read = endpoint.migration()->read(piece);
    EXPECT_TRUE(read) << read.error().message;
    if (!read) return stream;
    stream.insert(stream.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(read->size));
    if (read->end == StreamEnd::Final) return stream;
  }
}

Result<void> load(Endpoint& endpoint, std::span<const std::byte> stream) {
  to_state(endpoint, DeviceState::Resuming);
  if (auto written = endpoint.migration()->write(stream); !written) return written;
  return endpoint.migration()->set_state(static_cast<std::uint32_t>(DeviceState::Stop));
}

}  // namespace gangway::nvme::test
