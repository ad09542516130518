// A client's bytes against a whole server side: cut into messages, decoded, carried out on a real endpoint.
//
// The input is what a client sends after VERSION. A command's descriptors come from its number, so that messages which
// need one find it.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>

#include <gangway/endpoint.h>
#include <gangway/server.h>

#include "base/bytes.h"
#include "vfio_user/connection.h"
#include "vfio_user/message_reader.h"

namespace gangway::vfio_user {
namespace {

class FuzzDevice : public Migratable {
 public:
  FuzzDevice() : file_(::memfd_create("bar", MFD_CLOEXEC)) { (void)!::ftruncate(file_.get(), 0x2000); }
  [[nodiscard]] gangway::DeviceInfo info() const override {
    gangway::DeviceInfo info;
    info.pci.bars[0] = {.size = 0x2000};
    info.pci.bars[1] = {.size = 0x1000};
    info.pci.intx = true;
    info.pci.msix =
        MsixSpec{.vectors = 8, .table_bar = RegionIndex::Bar1, .pba_bar = RegionIndex::Bar1, .pba_offset = 0x800};
    info.regions[RegionIndex::Bar0] = {.mappable = {{0x1000, 0x1000}}, .file = &file_};
    return info;
  }
  void attach(Bus) override {}
  Result<void> read(RegionIndex, std::uint64_t offset, std::span<std::byte> out) override {
    std::ranges::copy(std::span(registers_).subspan(offset, out.size()), out.begin());
    return {};
  }
  Result<void> write(RegionIndex, std::uint64_t offset, std::span<const std::byte> in) override {
    std::ranges::copy(in, registers_.begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  }
  void reset() override {
    registers_.fill(std::byte{0});
    std::ranges::fill(memory_, std::byte{0});
  }
  [[nodiscard]] StateIdentity identity() const override { return {.device_type = "fuzz"}; }
  Result<void> stop_initiating() override { return {}; }
  Result<void> stop() override { return {}; }
  Result<void> save(StateWriter& writer) const override {
    writer.section("registers", registers_);
    return {};
  }
  Result<void> load(const StateReader& reader) override {
    const auto section = reader.section("registers");
    if (!section) return std::unexpected(section.error());
    if (section->size() != registers_.size()) return fail(EINVAL, "registers of another size");
    std::ranges::copy(*section, registers_.begin());
    return {};
  }
  [[nodiscard]] std::vector<StateMemory> state_memory() override { return {{"memory", memory_}}; }

 private:
  Fd file_;
  std::array<std::byte, 0x2000> registers_{};
  std::vector<std::byte> memory_ = std::vector<std::byte>(0x4000);
};

// What the kernel would hand over with a message.
std::vector<Fd> descriptors_for(const Header& header) {
  std::vector<Fd> fds;
  const auto command = static_cast<Command>(header.command);
  if (command == Command::DmaMap && header.id % 2 == 0) {
    fds.emplace_back(::memfd_create("dma", MFD_CLOEXEC));
    (void)!::ftruncate(fds.back().get(), 0x10000);
  }
  if (command == Command::DeviceSetIrqs) {
    for (int i = 0; i < header.id % 4; ++i) fds.emplace_back(::memfd_create("irq", MFD_CLOEXEC));
  }
  return fds;
}

// Bodies are decoded where they lie; the answer's size must be what its header can say and the client can take.
void carry_out(std::span<const std::byte> input) {
  static const std::unique_ptr<Endpoint> endpoint = *Endpoint::create(std::make_unique<FuzzDevice>());
  Session session{.endpoint = *endpoint, .offered = capabilities_of(*endpoint, 1 << 16)};
  session.negotiated.emplace(Negotiated{.server = session.offered});
  Answer answer;
  while (const std::optional<Header> header = load_at<Header>(input)) {
    input = input.subspan(sizeof *header);
    const std::size_t size = std::min<std::size_t>(header->size % 4096, input.size());
    Message message;
    message.header = *header;
    message.fds = descriptors_for(*header);
    std::ranges::copy(input.first(size), message.body.resize(size).begin());
    input = input.subspan(size);
    answer.clear();
    if (!handle(session, message, answer)) continue;
    std::uint64_t length = 0;
    for (const std::span<const std::byte> piece : answer.outgoing().body) length += piece.size();
    const bool has_argsz = header->command >= 3 && header->command <= 7;
    const auto argsz = load_at<std::uint32_t>(message.body.bytes());
    if (has_argsz && length > argsz.value_or(0)) std::abort();  // WIR-REPLY
    if (length > kMaxDirtyBitmap + 4096) std::abort();
  }
  if (!endpoint->client_gone()) std::abort();
}

// Never more from the stream than it has, whatever sizes it states.
void cut_into_messages(std::span<const std::byte> input) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
  const Fd reading(ends[0]);
  Fd writing(ends[1]);
  if (::send(writing.get(), input.data(), input.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
  writing.reset();
  MessageReader reader;
  Buffer body;
  for (;;) {
    const Result<MessageReader::Progress> progress = reader.advance();
    if (!progress) return;
    if (*progress == MessageReader::Progress::Header) {
      const std::size_t size = reader.header().size - sizeof(Header);
      if (size > input.size()) return;
      reader.place({body.resize(size), {}});
    }
    if (*progress == MessageReader::Progress::NeedsBytes && !reader.receive(reading.get(), Wait::No)) return;
  }
}

}  // namespace
}  // namespace gangway::vfio_user

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  if (input.empty()) return 0;
  (void)gangway::vfio_user::parse_capabilities(input);
  gangway::vfio_user::cut_into_messages(input);
  gangway::vfio_user::carry_out(input);
  return 0;
}
