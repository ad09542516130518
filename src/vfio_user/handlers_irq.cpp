#include <bit>

#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

constexpr std::uint32_t kDataMask = kIrqDataNone | kIrqDataBool | kIrqDataEventfd;
constexpr std::uint32_t kActionMask = kIrqActionMask | kIrqActionUnmask | kIrqActionTrigger;

Result<IrqType> irq_type(Session& session, std::uint32_t index) {
  if (index < session.endpoint.irq_count() && index < kIrqTypes) return static_cast<IrqType>(index);
  return fail(EINVAL, fmt::format("interrupt type {}: the device has {}", index, session.endpoint.irq_count()));
}

IrqAction action_of(std::uint32_t flags) {
  if ((flags & kIrqActionMask) != 0) return IrqAction::Mask;
  if ((flags & kIrqActionUnmask) != 0) return IrqAction::Unmask;
  return IrqAction::Trigger;
}

Result<void> take_bools(const IrqSet& asked, std::span<const std::byte> data, gangway::IrqSet& set) {
  if (data.size() != asked.count) {
    return fail(EINVAL, fmt::format("SET_IRQS: {} interrupts with {} booleans", asked.count, data.size()), "WIR-FRAME");
  }
  set.data = gangway::IrqSet::Data::Bool;
  set.bools.assign(data.begin(), data.end());
  return {};
}

Result<void> take_eventfds(const IrqSet& asked, std::vector<Fd>& fds, gangway::IrqSet& set) {
  if (fds.size() > kMaxMsgFds || (!fds.empty() && fds.size() != asked.count)) {
    return fail(EINVAL, fmt::format("SET_IRQS: {} interrupts with {} descriptors", asked.count, fds.size()), "WIR-FDS");
  }
  set.data = gangway::IrqSet::Data::Eventfd;
  set.eventfds = std::move(fds);
  return {};
}

}  // namespace

Result<void> handle_get_irq_info(Session& session, const Request& request, Answer& answer) {
  const auto asked = fixed_part<IrqInfo>(request);
  if (Result<void> fits = check_argsz("GET_IRQ_INFO", asked.argsz, sizeof asked); !fits) return fits;
  const Result<IrqType> type = irq_type(session, asked.index);
  if (!type) return std::unexpected(type.error());
  const gangway::IrqInfo info = session.endpoint.interrupts().info(*type);
  answer.put(IrqInfo{.argsz = sizeof asked, .flags = info.flags, .index = asked.index, .count = info.count});
  return {};
}

Result<void> handle_set_irqs(Session& session, const Request& request, Answer&) {
  const auto asked = fixed_part<IrqSet>(request);
  if (Result<void> fits = check_argsz("SET_IRQS", asked.argsz, sizeof asked); !fits) return fits;
  if ((asked.flags & ~(kDataMask | kActionMask)) != 0 || !std::has_single_bit(asked.flags & kDataMask) ||
      !std::has_single_bit(asked.flags & kActionMask)) {
    return fail(EINVAL, fmt::format("SET_IRQS: flags {:#x} are not one kind of data and one action", asked.flags));
  }
  const Result<IrqType> type = irq_type(session, asked.index);
  if (!type) return std::unexpected(type.error());

  gangway::IrqSet set{.type = *type, .action = action_of(asked.flags), .start = asked.start, .count = asked.count};
  Result<void> taken;
  if ((asked.flags & kIrqDataBool) != 0) taken = take_bools(asked, request.body.subspan(sizeof asked), set);
  if ((asked.flags & kIrqDataEventfd) != 0) taken = take_eventfds(asked, request.fds, set);
  if (!taken) return taken;
  return session.endpoint.interrupts().set(std::move(set));
}

}  // namespace gangway::vfio_user
