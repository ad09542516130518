#include <gangway/interrupts.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "device/interrupts_event_watch.h"
#include "device/interrupts_eventfd.h"
#include "device/interrupts_signaller.h"

namespace gangway {
namespace {

constexpr std::array<std::string_view, kIrqTypes> kNames{"INTx", "MSI", "MSI-X", "ERR", "REQ"};

// As Linux vfio_pci has them. MSI-X vectors may be set one by one at any time, so it is not NORESIZE.
constexpr std::array<std::uint32_t, kIrqTypes> kFlags{kIrqEventfd | kIrqMaskable | kIrqAutomasked,
                                                      kIrqEventfd | kIrqNoresize, kIrqEventfd,
                                                      kIrqEventfd | kIrqNoresize, kIrqEventfd | kIrqNoresize};

std::unexpected<Error> refuse(const IrqSet& request, int code, std::string_view why) {
  return fail(code, fmt::format("interrupts {}..+{} of type {}: {}", request.start, request.count,
                                to_number(request.type), why));
}

bool is_message(IrqType type) { return type == IrqType::Msi || type == IrqType::Msix; }

// Whether the request means vector number `i` of its range.
bool selects(const IrqSet& request, std::size_t i) {
  return request.data != IrqSet::Data::Bool || request.bools[i] != std::byte{0};
}

Result<void> check_action(const IrqSet& request) {
  if (request.action == IrqAction::Trigger) return {};
  if (request.type == IrqType::Err || request.type == IrqType::Req) {
    return refuse(request, ENOTTY, "they cannot be masked");
  }
  if (request.data == IrqSet::Data::Eventfd && request.type != IrqType::Intx) {
    return refuse(request, ENOTTY, "only INTx is masked by an eventfd");
  }
  return {};
}

Result<void> check_data(const IrqSet& request) {
  const bool disables_all = request.data == IrqSet::Data::None && request.action == IrqAction::Trigger;
  if (request.count == 0 && !disables_all) return refuse(request, EINVAL, "the range is empty");
  if (request.data == IrqSet::Data::Bool && request.bools.size() != request.count) {
    return refuse(request, EINVAL, fmt::format("{} booleans came with it", request.bools.size()));
  }
  if (request.data != IrqSet::Data::Eventfd || request.eventfds.empty()) return {};
  if (request.eventfds.size() != request.count) {
    return refuse(request, EINVAL, fmt::format("{} descriptors came with it", request.eventfds.size()));
  }
  const bool all_eventfds =
      std::ranges::all_of(request.eventfds, [](const Fd& fd) { return !fd || eventfd::is_eventfd(fd.get()); });
  if (!all_eventfds) return refuse(request, EINVAL, "a descriptor is no eventfd");
  return {};
}

}  // namespace

Interrupts::Interrupts(std::array<std::uint32_t, kIrqTypes> counts) : signaller_(std::make_unique<Signaller>()) {
  for (std::size_t type = 0; type < kIrqTypes; ++type) vectors_[type].resize(counts[type]);
}

Interrupts::~Interrupts() = default;

void Interrupts::trigger(IrqType type, std::uint32_t vector) {
  std::scoped_lock lock(mutex_);
  if (type == IrqType::Intx || to_number(type) >= kIrqTypes || vector >= vectors(type).size()) return;
  vectors(type)[vector].pending = true;
  deliver(type, vector);
}

bool Interrupts::takes_messages() const {
  const std::scoped_lock lock(mutex_);
  return std::ranges::any_of(std::array{IrqType::Msi, IrqType::Msix}, [this](IrqType type) {
    return std::ranges::any_of(vectors_[to_number(type)], [](const Vector& vector) { return bool{vector.trigger}; });
  });
}

void Interrupts::set_intx(bool asserted) {
  std::scoped_lock lock(mutex_);
  intx_level_ = asserted && !vectors(IrqType::Intx).empty();
  if (intx_level_) deliver(IrqType::Intx, 0);
}

IrqInfo Interrupts::info(IrqType type) const {
  if (to_number(type) >= kIrqTypes) return {};
  return {kFlags[to_number(type)], static_cast<std::uint32_t>(vectors_[to_number(type)].size())};
}

Result<void> Interrupts::check(const IrqSet& request) const {
  if (to_number(request.type) >= kIrqTypes) return refuse(request, EINVAL, "the type does not exist");
  const std::size_t count = vectors_[to_number(request.type)].size();
  if (request.start >= count || request.count > count - request.start) {
    return refuse(request, EINVAL, fmt::format("{} has {}", kNames[to_number(request.type)], count));
  }
  if (auto action = check_action(request); !action) return action;
  return check_data(request);
}

Result<void> Interrupts::set(IrqSet request) {
  if (auto checked = check(request); !checked) return checked;
  if (request.action != IrqAction::Trigger && request.data == IrqSet::Data::Eventfd) {
    return watch_intx(std::move(request));
  }
  const bool disables_intx =
      request.type == IrqType::Intx && request.action == IrqAction::Trigger && request.count == 0;
  std::unique_ptr<EventWatch> ended[2];
  std::scoped_lock lock(mutex_);
  if (disables_intx) {
    ended[0] = std::move(intx_mask_event_);
    ended[1] = std::move(intx_unmask_event_);
  }
  apply(request);
  return {};
}

Result<void> Interrupts::watch_intx(IrqSet request) {
  const bool masks = request.action == IrqAction::Mask;
  std::unique_ptr<EventWatch> watch;
  if (!request.eventfds.empty() && request.eventfds[0]) {
    auto started = EventWatch::start(std::move(request.eventfds[0]), [this, masks] { set_intx_mask(masks); });
    if (!started) return std::unexpected(std::move(started.error()));
    watch = std::move(*started);
  }
  {
    std::scoped_lock lock(mutex_);
    (masks ? intx_mask_event_ : intx_unmask_event_).swap(watch);
  }
  return {};  // the one it replaces ends here, without the lock
}

void Interrupts::set_intx_mask(bool masked) {
  std::scoped_lock lock(mutex_);
  vectors(IrqType::Intx)[0].masked = masked;
  deliver(IrqType::Intx, 0);
}

void Interrupts::apply(IrqSet& request) {
  if (request.count == 0) {  // VFIO: DATA_NONE | TRIGGER with count 0 disables the type; what is pending stays
    for (Vector& vector : vectors(request.type)) {
      vector.trigger.reset();
      vector.masked = false;
    }
    return;
  }
  for (std::size_t i = 0; i < request.count; ++i) {
    if (!selects(request, i)) continue;
    const std::size_t index = request.start + i;
    if (request.action == IrqAction::Trigger) {
      apply_trigger(request, index);
    } else {
      vectors(request.type)[index].masked = request.action == IrqAction::Mask;
      deliver(request.type, index);
    }
  }
}

void Interrupts::apply_trigger(IrqSet& request, std::size_t index) {
  Vector& vector = vectors(request.type)[index];
  if (request.data == IrqSet::Data::Eventfd) {
    vector.trigger = request.eventfds.empty() ? Fd() : std::move(request.eventfds[index - request.start]);
    deliver(request.type, index);
    return;
  }
  // Loopback: the client tests its own end, so neither the level nor a stopped device matters.
  if (!vector.trigger) return;
  if (!vector.masked) {
    signal(vector);
  } else if (is_message(request.type)) {
    vector.pending = true;
  }
}

void Interrupts::signal(const Vector& vector) { signaller_->signal(vector.trigger.get()); }

void Interrupts::deliver(IrqType type, std::size_t index) {
  Vector& vector = vectors(type)[index];
  const bool due = type == IrqType::Intx ? intx_level_ : vector.pending;
  if (!due || held_ || vector.masked || !vector.trigger) return;
  signal(vector);
  vector.pending = false;
  if (type == IrqType::Intx) vector.masked = true;  // AUTOMASKED: until the client unmasks
}

void Interrupts::deliver_all() {
  for (std::uint32_t type = 0; type < kIrqTypes; ++type) {
    for (std::size_t i = 0; i < vectors_[type].size(); ++i) deliver(static_cast<IrqType>(type), i);
  }
}

void Interrupts::hold(bool held) {
  std::scoped_lock lock(mutex_);
  held_ = held;
  deliver_all();
}

void Interrupts::clear() {
  std::unique_ptr<EventWatch> ended[2];
  std::scoped_lock lock(mutex_);
  ended[0] = std::move(intx_mask_event_);
  ended[1] = std::move(intx_unmask_event_);
  for (auto& of_type : vectors_) {
    for (Vector& vector : of_type) vector = Vector{};
  }
  intx_level_ = false;
}

void Interrupts::reset() {
  std::scoped_lock lock(mutex_);
  for (auto& of_type : vectors_) {
    for (Vector& vector : of_type) vector.pending = false;
  }
  intx_level_ = false;
}

std::vector<bool> Interrupts::pending(IrqType type) const {
  if (to_number(type) >= kIrqTypes) return {};
  std::scoped_lock lock(mutex_);
  const std::vector<Vector>& of_type = vectors_[to_number(type)];
  std::vector<bool> bits(of_type.size());
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = type == IrqType::Intx ? intx_level_ : of_type[i].pending;
  return bits;
}

void Interrupts::set_pending(IrqType type, const std::vector<bool>& bits) {
  if (to_number(type) >= kIrqTypes) return;
  std::scoped_lock lock(mutex_);
  std::vector<Vector>& of_type = vectors(type);
  for (std::size_t i = 0; i < std::min(bits.size(), of_type.size()); ++i) {
    if (type == IrqType::Intx) {
      intx_level_ = bits[i];
    } else {
      of_type[i].pending = bits[i];
    }
    deliver(type, i);
  }
}

bool Interrupts::intx_asserted() const {
  std::scoped_lock lock(mutex_);
  return intx_level_;
}

}  // namespace gangway
