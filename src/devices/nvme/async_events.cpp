#include "devices/nvme/async_events.h"

#include <algorithm>

#include "devices/nvme/log_pages.h"

namespace gangway::nvme {
namespace {

std::uint8_t bit(EventType type) { return static_cast<std::uint8_t>(1U << static_cast<unsigned>(type)); }

}  // namespace

bool AsyncEvents::add_request(std::uint16_t cid) {
  if (state_.requests.size() == kMaxRequests) return false;
  state_.requests.push_back(cid);
  return true;
}

bool AsyncEvents::has_request(std::uint16_t cid) const {
  return std::ranges::find(state_.requests, cid) != state_.requests.end();
}

bool AsyncEvents::abort_request(std::uint16_t cid) {
  const auto found = std::ranges::find(state_.requests, cid);
  if (found == state_.requests.end()) return false;
  state_.requests.erase(found);
  return true;
}

bool AsyncEvents::report(AsyncEvent event) {
  if (state_.pending.size() == kMaxPending || std::ranges::find(state_.pending, event) != state_.pending.end()) {
    return false;
  }
  state_.pending.push_back(event);
  return true;
}

void AsyncEvents::log_read(std::uint8_t page) {
  const EventType type = page == kLogSmart ? EventType::Smart : EventType::Error;
  if (page == kLogSmart || page == kLogError) state_.silenced = static_cast<std::uint8_t>(state_.silenced & ~bit(type));
}

std::optional<AsyncEvents::Delivery> AsyncEvents::next() const {
  if (state_.requests.empty()) return std::nullopt;
  const auto speaks = [this](const AsyncEvent& event) { return (state_.silenced & bit(event.type)) == 0; };
  const auto found = std::ranges::find_if(state_.pending, speaks);
  if (found == state_.pending.end()) return std::nullopt;
  return Delivery{.cid = state_.requests.front(), .event = *found};
}

void AsyncEvents::take(const Delivery& delivery) {
  state_.requests.erase(state_.requests.begin());
  std::erase(state_.pending, delivery.event);
  state_.silenced = static_cast<std::uint8_t>(state_.silenced | bit(delivery.event.type));
}

}  // namespace gangway::nvme
