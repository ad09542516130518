#include "record/act_filter.h"

#include <algorithm>

#include <gangway/contract.h>

namespace gangway::record {

std::optional<std::uint32_t> StateTracker::take(const Act& act) {
  constexpr auto kRunning = static_cast<std::uint32_t>(DeviceState::Running);
  const auto found = states_.try_emplace(act.connection, kRunning).first;
  const std::optional<std::uint32_t> before = found->second;
  if (const auto* set = std::get_if<SetState>(&act.doing)) {
    found->second = act.succeeded() ? std::optional(set->state) : std::nullopt;
  } else if (const auto* get = std::get_if<GetState>(&act.doing); get != nullptr && act.succeeded()) {
    found->second = get->state;
  } else if ((std::holds_alternative<Reset>(act.doing) && act.succeeded()) || std::holds_alternative<Open>(act.doing)) {
    found->second = kRunning;
  }
  return before;
}

bool ActSelection::wants(const Act& act) {
  const std::optional<std::uint32_t> state = states_.take(act);
  if (filter_.by == ActFilter::By::Client && act.by_device) return false;
  if (filter_.by == ActFilter::By::Device && !act.by_device) return false;
  if (!filter_.names.empty() && !filter_.names.contains(name(act.doing))) return false;
  const auto is_about = [&act](std::uint32_t one) { return act.is_about(one); };
  if (!filter_.connections.empty() && std::ranges::none_of(filter_.connections, is_about)) return false;
  if (filter_.state && state != filter_.state) return false;
  return act.time >= filter_.since && (!filter_.until || act.time <= *filter_.until);
}

}  // namespace gangway::record
