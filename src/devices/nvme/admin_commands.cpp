#include "devices/nvme/admin_commands.h"

#include <algorithm>

namespace gangway::nvme {
namespace {

constexpr std::uint32_t kTemperatureEvents = 1U << 1;  // of the async event configuration: SMART critical warnings
constexpr std::uint32_t kNotAborted = 1;               // dword 0 of an abort's completion

}  // namespace

std::optional<Outcome> AdminCommands::execute(const Command& command) {
  if (!plain(command)) return Outcome{Status::InvalidField};
  switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::DeleteSubmissionQueue:
      return delete_submission_queue(command);
    case AdminOpcode::CreateSubmissionQueue:
      return create_submission_queue(command);
    case AdminOpcode::GetLogPage:
      return get_log_page(command);
    case AdminOpcode::DeleteCompletionQueue:
      return delete_completion_queue(command);
    case AdminOpcode::CreateCompletionQueue:
      return create_completion_queue(command);
    case AdminOpcode::Identify:
      return identify(command);
    case AdminOpcode::Abort:
      return abort(command);
    case AdminOpcode::SetFeatures:
      return set_features(command);
    case AdminOpcode::GetFeatures:
      return get_features(command);
    case AdminOpcode::AsyncEventRequest:
      return async_event_request(command);
    case AdminOpcode::DoorbellBufferConfig:
      return doorbell_buffer_config(command);
  }
  return Outcome{Status::InvalidOpcode};
}

Outcome AdminCommands::identify(const Command& command) {
  const auto cns = static_cast<std::uint8_t>(command.cdw10 & 0xffU);
  const auto data = nvme::identify(cns, command.nsid, state_.identity, state_.namespaces);
  if (!data) return {data.error()};
  return {state_.memory.write(command, *data)};
}

Outcome AdminCommands::get_log_page(const Command& command) {
  const auto number = static_cast<std::uint8_t>(command.cdw10 & 0xffU);
  const bool retain_events = (command.cdw10 >> 15 & 1U) != 0;
  const std::uint64_t dwords = (std::uint64_t{command.cdw11 & 0xffffU} << 16 | command.cdw10 >> 16) + 1;
  const std::uint64_t length = dwords * 4;
  const std::uint64_t offset = std::uint64_t{command.cdw13} << 32 | command.cdw12;

  auto page = state_.logs.page(number, state_.features.temperature_warning());
  if (!page) return {Status::InvalidLogPage};
  const bool whole_controller = command.nsid == 0 || command.nsid == kBroadcastNamespace;
  if (!whole_controller && command.nsid > state_.namespaces.size()) return {Status::InvalidNamespace};
  if (!whole_controller && number == kLogSmart) return {Status::InvalidField};  // no SMART log per namespace
  if (length > kMaxTransfer || offset % 4 != 0 || offset > page->size()) return {Status::InvalidField};

  page->erase(page->begin(), page->begin() + static_cast<std::ptrdiff_t>(offset));
  page->resize(length);  // zeros beyond the end
  const Status status = state_.memory.write(command, *page);
  if (status == Status::Success && !retain_events) state_.events.log_read(number);
  return {status};
}

Outcome AdminCommands::get_features(const Command& command) {
  const auto number = static_cast<std::uint8_t>(command.cdw10 & 0xffU);
  const auto select = static_cast<Features::Select>(command.cdw10 >> 8 & 7U);
  const auto value = state_.features.get(number, select, command.nsid, command.cdw11);
  if (!value) return {value.error()};
  return {Status::Success, *value};
}

Outcome AdminCommands::set_features(const Command& command) {
  const auto number = static_cast<std::uint8_t>(command.cdw10 & 0xffU);
  const bool save = (command.cdw10 >> 31) != 0;
  const auto value = state_.features.set(number, save, command.nsid, command.cdw11, state_.queues.has_io_queues());
  if (!value) return {value.error()};
  report_temperature();
  return {Status::Success, *value};
}

void AdminCommands::report_temperature() {
  const bool wanted = (state_.features.values().async_events & kTemperatureEvents) != 0;
  if (!wanted || !state_.features.temperature_warning()) return;
  state_.events.report({.type = EventType::Smart, .information = kEventTemperature, .log_page = kLogSmart});
}

// What is fetched is with the image already and runs to its end; only an event request can be taken back.
Outcome AdminCommands::abort(const Command& command) {
  const auto sq_id = static_cast<std::uint16_t>(command.cdw10 & 0xffffU);
  const auto cid = static_cast<std::uint16_t>(command.cdw10 >> 16);
  if (state_.queues.sq(sq_id) == nullptr) return {Status::InvalidField};
  if (sq_id != 0 || !state_.events.has_request(cid)) return {Status::Success, kNotAborted};
  if (!state_.queues.complete_released(cid, {Status::AbortRequested})) return {Status::Success, kNotAborted};
  state_.events.abort_request(cid);
  return {Status::Success};
}

std::optional<Outcome> AdminCommands::async_event_request(const Command& command) {
  if (!state_.events.add_request(command.cid)) return Outcome{Status::AsyncEventLimitExceeded};
  state_.queues.release(*state_.queues.sq(0));  // its completion may take for ever: it holds no slot
  return std::nullopt;
}

Outcome AdminCommands::doorbell_buffer_config(const Command& command) {
  const std::uint32_t page_size = state_.memory.page_size();
  if (command.prp1 % page_size != 0 || command.prp2 % page_size != 0) return {Status::InvalidPrpOffset};
  // Both are tried before they count: the event indices are else written only when the controller goes to sleep, and
  // nobody could be told then.
  ShadowDoorbells shadows;
  shadows.enable({command.prp1}, {command.prp2});
  DmaSpace& dma = state_.memory.dma();
  const auto doorbells = shadows.load(dma, std::size_t{state_.io_queue_pairs} + 1);
  if (!doorbells) return {Status::InvalidField};
  for (std::size_t word = 0; word < doorbells->size(); ++word) {
    if (!shadows.ask(dma, word, (*doorbells)[word])) return {Status::InvalidField};
  }
  state_.shadows = shadows;
  return {Status::Success};
}

}  // namespace gangway::nvme
