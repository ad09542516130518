// Asynchronous events: requests that the host left with the controller, and events that wait for one.
//
// An event is reported once; its type stays silent until the host has read the log page that tells about it.
// Source: NVM Express 1.4, 5.2.
//
// Thread-safety: the I/O thread's own.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace gangway::nvme {

enum class EventType : std::uint8_t { Error = 0, Smart = 1 };

inline constexpr std::uint8_t kEventInvalidDoorbellRegister = 0;  // of Error
inline constexpr std::uint8_t kEventInvalidDoorbellValue = 1;
inline constexpr std::uint8_t kEventTemperature = 1;  // of Smart

struct AsyncEvent {
  EventType type = EventType::Error;
  std::uint8_t information = 0;
  std::uint8_t log_page = 0;
  friend bool operator==(const AsyncEvent&, const AsyncEvent&) = default;
  [[nodiscard]] std::uint32_t result() const {
    return static_cast<std::uint32_t>(type) | std::uint32_t{information} << 8 | std::uint32_t{log_page} << 16;
  }
};

class AsyncEvents {
 public:
  static constexpr std::size_t kMaxRequests = 4;
  static constexpr std::size_t kMaxPending = 8;

  // False when the limit is reached.
  bool add_request(std::uint16_t cid);
  [[nodiscard]] bool has_request(std::uint16_t cid) const;
  // True when a request of this identifier was there.
  bool abort_request(std::uint16_t cid);

  // Keeps the event; false when the same one waits already.
  bool report(AsyncEvent event);
  // The host read a log page: its events may be reported again.
  void log_read(std::uint8_t page);

  struct Delivery {
    std::uint16_t cid = 0;
    AsyncEvent event;
  };
  // A request and the event it completes with, if there is such a pair. take() removes it.
  [[nodiscard]] std::optional<Delivery> next() const;
  void take(const Delivery& delivery);

  void clear() { *this = AsyncEvents(); }

  struct State {
    std::vector<std::uint16_t> requests;
    std::deque<AsyncEvent> pending;
    std::uint8_t silenced = 0;  // a bit for each type reported and not read
  };
  [[nodiscard]] const State& state() const { return state_; }
  void restore(State state) { state_ = std::move(state); }

 private:
  State state_;
};

}  // namespace gangway::nvme
