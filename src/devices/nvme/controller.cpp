#include "devices/nvme/controller.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "base/bytes.h"
#include "devices/nvme/controller_state.h"
#include "devices/nvme/core.h"
#include "devices/nvme/io_thread.h"
#include "devices/nvme/pci_identity.h"
#include "devices/nvme/state.h"

namespace gangway::nvme {
namespace {

constexpr std::uint64_t kBar0Size = 0x4000;
constexpr std::uint64_t kBar4Size = 0x2000;
constexpr std::uint32_t kMsixPbaOffset = 0x1000;
constexpr std::size_t kMaxNamespaces = 256;
constexpr std::uint32_t kModelVersion = 2;  // 2: what has to be the same on both sides comes first, too
constexpr std::string_view kIdentitySection = "identity";
constexpr std::string_view kSection = "controller";

Result<void> check_text(std::string_view what, std::string_view text, std::size_t longest) {
  const auto printable = [](char c) { return c >= ' ' && c <= '~'; };
  if (text.empty() || text.size() > longest || !std::ranges::all_of(text, printable)) {
    return fail(EINVAL, fmt::format("{}: must be 1 to {} printable ASCII characters", what, longest));
  }
  return {};
}

Result<std::vector<Namespace>> open_namespaces(const std::vector<NamespaceOptions>& options) {
  if (options.empty() || options.size() > kMaxNamespaces) {
    return fail(EINVAL, fmt::format("a controller has 1 to {} namespaces, not {}", kMaxNamespaces, options.size()));
  }
  std::vector<Namespace> namespaces;
  for (const NamespaceOptions& one : options) {
    auto opened = Namespace::open(one);
    if (!opened) return std::unexpected(std::move(opened.error()));
    namespaces.push_back(std::move(*opened));
  }
  return namespaces;
}

}  // namespace

// Everything the I/O thread uses, and the thread, which goes first.
class Controller::Running {
 public:
  Running(ControllerState* state, Fd rings, std::unique_ptr<Backend> backend, IoThread::Options options)
      : state_(state),
        rings_(std::move(rings)),
        backend_(std::move(backend)),
        thread_(core_, *backend_, options),
        options_(options) {}
  ~Running() {
    if (attached_) thread_.call([this] { core_.reset(); });
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  std::unique_ptr<ControllerState> state_;
  Fd rings_;  // with mapped doorbells: an eventfd that the client may ring
  std::unique_ptr<Backend> backend_;
  Core core_{*state_, *backend_};
  IoThread thread_;
  IoThread::Options options_;
  bool attached_ = false;
  std::optional<Error> failure_;  // the I/O thread could not start
};

Controller::Controller(std::unique_ptr<Running> running) : running_(std::move(running)) {}

Controller::~Controller() = default;

Result<std::unique_ptr<Controller>> Controller::create(ControllerOptions options) {
  if (auto good = check_text("serial number", options.serial, kSerialLength); !good) {
    return std::unexpected(std::move(good.error()));
  }
  if (auto good = check_text("model", options.model, kModelLength); !good) {
    return std::unexpected(std::move(good.error()));
  }
  if (options.io_queue_pairs == 0 || options.io_queue_pairs > kMaxIoQueues) {
    return fail(EINVAL, fmt::format("{} I/O queue pairs: must be 1 to {}", options.io_queue_pairs, kMaxIoQueues));
  }
  auto namespaces = open_namespaces(options.namespaces);
  if (!namespaces) return std::unexpected(std::move(namespaces.error()));
  std::vector<int> files;
  for (const Namespace& space : *namespaces) files.push_back(space.fd());
  auto backend = options.backend(files);
  if (!backend) return std::unexpected(std::move(backend.error()));
  auto doorbells = Doorbells::create(kBar0Size);
  if (!doorbells) return std::unexpected(std::move(doorbells.error()));

  Fd rings;
  if (options.mapped_doorbells) {
    rings.reset(::eventfd(0, EFD_CLOEXEC));
    if (!rings) return fail_errno("create an eventfd");
    (*backend)->watch(rings);
  }

  auto* state =
      new ControllerState{.identity = {.serial = std::move(options.serial), .model = std::move(options.model)},
                          .namespaces = std::move(*namespaces),
                          .io_queue_pairs = options.io_queue_pairs,
                          .doorbells = std::move(*doorbells)};
  const IoThread::Options thread{.spin = options.spin, .mapped_doorbells = options.mapped_doorbells};
  return std::unique_ptr<Controller>(
      new Controller(std::make_unique<Running>(state, std::move(rings), std::move(*backend), thread)));
}

DeviceInfo Controller::info() const {
  DeviceInfo info;
  info.pci.identity = {.vendor = kPciVendor,
                       .device = kPciDevice,
                       .subsystem_vendor = kPciSubsystemVendor,
                       .subsystem = kPciSubsystem,
                       .class_code = kPciClass};
  info.pci.bars[0] = {.size = kBar0Size, .kind = BarSpec::Kind::Memory64};
  info.pci.bars[4] = {.size = kBar4Size, .kind = BarSpec::Kind::Memory32};
  info.pci.intx = true;
  info.pci.pcie = PcieSpec{.type = PcieSpec::Type::Endpoint, .function_level_reset = true};
  info.pci.msix = MsixSpec{.vectors = kVectors,
                           .table_bar = RegionIndex::Bar4,
                           .table_offset = 0,
                           .pba_bar = RegionIndex::Bar4,
                           .pba_offset = kMsixPbaOffset};
  if (running_->options_.mapped_doorbells) {
    const Doorbells& doorbells = running_->state_->doorbells;
    info.regions[RegionIndex::Bar0] = {.mappable = {{.offset = kDoorbellOffset, .size = kDoorbellPage}},
                                       .file = &doorbells.file()};
    // Who stored a doorbell in the mapping may ring with these, and need not wait for the I/O thread's nap to end.
    auto& rings = info.io_eventfds[RegionIndex::Bar0];
    for (std::size_t word = 0; word < running_->state_->doorbell_words(); ++word) {
      rings.push_back({.offset = kDoorbellOffset + (word * sizeof(std::uint32_t)),
                       .size = sizeof(std::uint32_t),
                       .eventfd = &running_->rings_});
    }
  }
  return info;
}

void Controller::attach(Bus bus) {
  ControllerState& state = *running_->state_;
  state.memory.attach(bus.dma);
  state.queues.attach(bus.dma);
  state.lines.attach(bus.interrupts);
  if (auto started = running_->thread_.run(); !started) {
    running_->failure_ = started.error();
    return;
  }
  running_->attached_ = true;
}

Result<void> Controller::read(RegionIndex region, std::uint64_t offset, std::span<std::byte> out) {
  if (region != RegionIndex::Bar0) {
    return fail(EINVAL, fmt::format("region {}: read at {:#x}: nothing is there", to_number(region), offset));
  }
  const ControllerState& state = *running_->state_;
  state.registers.read(offset, out, state.lines.masked());  // doorbells read as zeros
  return {};
}

Result<void> Controller::write(RegionIndex region, std::uint64_t offset, std::span<const std::byte> in) {
  constexpr std::size_t kWord = sizeof(std::uint32_t);
  if (region != RegionIndex::Bar0 || offset % kWord != 0 || (in.size() != kWord && in.size() != 2 * kWord)) {
    return fail(EINVAL,
                fmt::format("region {}: write of {} bytes at {:#x}: registers are written in aligned units of 4 "
                            "or 8 bytes",
                            to_number(region), in.size(), offset));
  }
  for (; !in.empty(); in = in.subspan(kWord), offset += kWord) {
    const auto value = *load_at<std::uint32_t>(in);
    if (offset >= kDoorbellOffset) {
      write_doorbell(offset - kDoorbellOffset, value);
    } else {
      write_register(offset, value);
    }
  }
  return {};
}

void Controller::write_doorbell(std::uint64_t offset, std::uint32_t value) {
  const std::size_t word = offset / sizeof(std::uint32_t);
  if (word < running_->state_->doorbell_words()) {
    running_->state_->doorbells.store(word, value);
  } else {
    running_->core_.note_stray_doorbell();
  }
  running_->thread_.ring();
}

// Read-only and reserved registers take no notice.
void Controller::write_register(std::uint64_t offset, std::uint32_t value) {
  ControllerState& state = *running_->state_;
  switch (offset) {
    case kRegisterIntms:
      state.lines.mask(value);
      break;
    case kRegisterIntmc:
      state.lines.unmask(value);
      break;
    case kRegisterCc:
      state.registers.configure({value & kCcWritable});
      running_->core_.note_configuration({value});
      running_->thread_.ring();
      break;
    default:
      state.registers.write_queue_register(offset, value);
      break;
  }
}

void Controller::reset() {
  if (!running_->attached_) return;
  running_->thread_.call([this] { running_->core_.reset(); });
}

Result<void> Controller::start() {
  if (running_->failure_) return std::unexpected(*running_->failure_);
  return running_->thread_.call([this] { return running_->core_.start(); });
}

StateIdentity Controller::identity() const {
  return {.device_type = "nvme", .model_version = kModelVersion, .compatible_with = 1};
}

Result<void> Controller::stop_initiating() {
  running_->thread_.call([this] { running_->core_.stop_initiating(); });
  return {};
}

Result<void> Controller::stop() {
  running_->thread_.call([this] { running_->core_.stop(); });
  return {};
}

Result<void> Controller::save_requirements(StateWriter& writer) const {
  writer.section(kIdentitySection, serialize_identity(*running_->state_));
  return {};
}

Result<void> Controller::check_requirement(std::string_view section, std::span<const std::byte> bytes) const {
  if (section != kIdentitySection) return {};
  return check_identity(bytes, *running_->state_);
}

Result<void> Controller::save(StateWriter& writer) const {
  writer.section(kSection, running_->thread_.call([this] { return serialize(*running_->state_); }));
  return {};
}

Result<void> Controller::load(const StateReader& reader) {
  const auto section = reader.section(kSection);
  if (!section) return std::unexpected(section.error());
  return running_->thread_.call([&]() -> Result<void> {
    if (auto good = deserialize(*section, *running_->state_); !good) return fail_within("nvme state", good.error());
    running_->core_.adopt_state();
    return {};
  });
}

std::string_view Controller::backend_name() const { return running_->backend_->name(); }

}  // namespace gangway::nvme
