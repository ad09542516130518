#include "migrate/message.h"

#include <cstddef>

#include "migrate/page_batch.h"

namespace gangway::migrate {
namespace {

struct Row {
  MessageType type;
  std::string_view name;
  std::uint32_t longest;  // payload, bytes
};

constexpr std::array kRows{
    Row{MessageType::Setup, "SETUP", kMaxSetup},
    Row{MessageType::SetupDone, "SETUP_DONE", 0},
    Row{MessageType::DeviceConfig, "DEVICE_CONFIG", kDeviceHeadBytes + kMaxConfigSpace},
    Row{MessageType::DeviceData, "DEVICE_DATA", kDeviceHeadBytes + kDeviceDataBytes},
    Row{MessageType::Pages, "PAGES", kMaxPageBatchPayload},
    Row{MessageType::RoundEnd, "ROUND_END", 8},
    Row{MessageType::RoundDone, "ROUND_DONE", 4},
    Row{MessageType::Cpus, "CPUS", kMaxCpuState},
    Row{MessageType::Last, "LAST", 16},
    Row{MessageType::Prepared, "PREPARED", 0},
    Row{MessageType::Commit, "COMMIT", 0},
    Row{MessageType::Running, "RUNNING", 0},
    Row{MessageType::Failed, "FAILED", kMaxFailure},
    Row{MessageType::Alive, "ALIVE", 0},
};

const Row* find(MessageType type) {
  for (const Row& row : kRows) {
    if (row.type == type) return &row;
  }
  return nullptr;
}

}  // namespace

std::optional<std::uint32_t> longest_payload(MessageType type) {
  const Row* row = find(type);
  if (row == nullptr) return std::nullopt;
  return row->longest;
}

std::string_view name(MessageType type) {
  const Row* row = find(type);
  return row == nullptr ? "an unknown message" : row->name;
}

}  // namespace gangway::migrate
