#include "devices/nvme/state.h"

#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/printable.h"
#include "nvme_state.pb.h"

namespace gangway::nvme {
namespace {

constexpr std::size_t kLongestShown = 64;  // of a saved text, which may have any length

template <class... Args>
Result<void> refuse(fmt::format_string<Args...> format, Args&&... args) {
  return fail(EINVAL, fmt::format(format, std::forward<Args>(args)...));
}

// --- save ---

void save_identity(const ControllerState& state, state::Identity& out) {
  out.set_serial(state.identity.serial);
  out.set_model(state.identity.model);
  out.set_io_queue_pairs(state.io_queue_pairs);
  for (const Namespace& space : state.namespaces) {
    state::Namespace& one = *out.add_namespaces();
    one.set_blocks(space.blocks());
    one.set_block_size(space.block_size());
    one.set_read_only(space.read_only());
  }
}

void save_registers(const ControllerState& state, state::Registers& out) {
  out.set_cc(state.registers.cc);
  out.set_csts(state.registers.csts);
  out.set_aqa(state.registers.aqa);
  out.set_asq(state.registers.asq);
  out.set_acq(state.registers.acq);
  out.set_interrupt_mask(state.lines.masked());
}

void save_queues(const ControllerState& state, state::Controller& out) {
  for (std::uint16_t id = 0; id < kMaxQueues; ++id) {
    if (const SubmissionQueue* queue = state.queues.sq(id)) {
      state::SubmissionQueue& one = *out.add_submission_queues();
      one.set_id(id);
      one.set_completion_queue(queue->cq_id);
      one.set_base(queue->base.value);
      one.set_size(queue->size);
      one.set_head(queue->head);
      one.set_tail(queue->tail);
      one.set_priority(queue->priority);
    }
    if (const CompletionQueue* queue = state.queues.cq(id)) {
      state::CompletionQueue& one = *out.add_completion_queues();
      one.set_id(id);
      one.set_base(queue->base.value);
      one.set_size(queue->size);
      one.set_head(queue->head);
      one.set_tail(queue->tail);
      one.set_phase(queue->phase);
      one.set_vector(queue->vector);
      one.set_interrupts(queue->interrupts);
    }
  }
  for (std::size_t word = 0; word < state.doorbell_words(); ++word) out.add_doorbells(state.doorbells.load(word));
  if (state.shadows.enabled()) {
    out.mutable_shadow_doorbells()->set_doorbells(state.shadows.doorbells().value);
    out.mutable_shadow_doorbells()->set_event_indices(state.shadows.event_indices().value);
  }
}

void save_features(const Features::Values& values, state::Features& out) {
  out.set_arbitration(values.arbitration);
  out.set_power_management(values.power_management);
  out.set_over_temperature(values.over_temperature);
  out.set_under_temperature(values.under_temperature);
  for (const std::uint32_t value : values.error_recovery) out.add_error_recovery(value);
  out.set_volatile_write_cache(values.volatile_write_cache);
  out.set_number_of_queues(values.number_of_queues);
  out.set_interrupt_coalescing(values.interrupt_coalescing);
  out.set_uncoalesced_vectors(values.uncoalesced_vectors);
  out.set_write_atomicity(values.write_atomicity);
  out.set_async_events(values.async_events);
}

void save_events(const AsyncEvents::State& events, state::AsyncEvents& out) {
  for (const std::uint16_t cid : events.requests) out.add_requests(cid);
  for (const AsyncEvent& event : events.pending) {
    state::AsyncEvents::Event& one = *out.add_pending();
    one.set_type(static_cast<std::uint32_t>(event.type));
    one.set_information(event.information);
    one.set_log_page(event.log_page);
  }
  out.set_silenced(events.silenced);
}

void save_logs(const LogPages& logs, state::Controller& out) {
  const SmartCounters& counters = logs.counters();
  state::Smart& smart = *out.mutable_smart();
  smart.set_bytes_read(counters.bytes_read);
  smart.set_bytes_written(counters.bytes_written);
  smart.set_reads(counters.reads);
  smart.set_writes(counters.writes);
  smart.set_power_cycles(counters.power_cycles);
  smart.set_unsafe_shutdowns(counters.unsafe_shutdowns);
  smart.set_media_errors(counters.media_errors);
  smart.set_errors(counters.errors);
  smart.set_powered_seconds(counters.powered_seconds);
  for (const ErrorLogEntry& entry : logs.errors()) out.add_error_log(&entry, sizeof(entry));
}

// --- load ---

Result<void> check_identity(const state::Identity& in, const ControllerState& state) {
  if (in.serial() != state.identity.serial) {
    return refuse("serial number '{}' was saved, this controller has '{}'; give both the same",
                  printable(in.serial(), kLongestShown), state.identity.serial);
  }
  if (in.model() != state.identity.model) {
    return refuse("model '{}' was saved, this controller has '{}'", printable(in.model(), kLongestShown),
                  state.identity.model);
  }
  if (in.io_queue_pairs() != state.io_queue_pairs) {
    return refuse("{} I/O queue pairs were saved, this controller has {}", in.io_queue_pairs(), state.io_queue_pairs);
  }
  if (static_cast<std::size_t>(in.namespaces_size()) != state.namespaces.size()) {
    return refuse("{} namespaces were saved, this controller has {}", in.namespaces_size(), state.namespaces.size());
  }
  for (int index = 0; index < in.namespaces_size(); ++index) {
    const state::Namespace& saved = in.namespaces(index);
    const Namespace& own = state.namespaces[static_cast<std::size_t>(index)];
    if (saved.blocks() != own.blocks() || saved.block_size() != own.block_size() ||
        saved.read_only() != own.read_only()) {
      return refuse("namespace {}: {} {}blocks of {} were saved, image {} has {} {}blocks of {}", index + 1,
                    saved.blocks(), saved.read_only() ? "read-only " : "", saved.block_size(), own.path().string(),
                    own.blocks(), own.read_only() ? "read-only " : "", own.block_size());
    }
  }
  return {};
}

Result<void> load_registers(const state::Registers& in, ControllerState& state) {
  // A shutdown that goes on is waited for before a save; one that failed stays as it is, fatal.
  const std::uint32_t known =
      kCstsReady | kCstsFatal |
      ((in.csts() & kCstsFatal) != 0 && (in.csts() & kCstsShutdownMask) == kCstsShutdownOccurring
           ? kCstsShutdownOccurring
           : kCstsShutdownComplete);
  if ((in.cc() & ~kCcWritable) != 0) return refuse("register CC {:#x} has reserved bits", in.cc());
  if ((in.csts() & ~known) != 0) return refuse("register CSTS {:#x} has impossible bits", in.csts());
  const Cc cc{in.cc()};
  const bool ready = (in.csts() & kCstsReady) != 0;
  if (ready && (!cc.enable() || cc.page_shift() > kMaxPageShift || cc.command_set() != 0 || cc.arbitration() != 0)) {
    return refuse("register CSTS is ready with CC {:#x}", in.cc());
  }
  state.registers.cc = in.cc();
  state.registers.csts = in.csts();
  state.registers.write_queue_register(kRegisterAqa, in.aqa());
  state.registers.write_queue_register(kRegisterAsq, static_cast<std::uint32_t>(in.asq()));
  state.registers.write_queue_register(kRegisterAsq + 4, static_cast<std::uint32_t>(in.asq() >> 32));
  state.registers.write_queue_register(kRegisterAcq, static_cast<std::uint32_t>(in.acq()));
  state.registers.write_queue_register(kRegisterAcq + 4, static_cast<std::uint32_t>(in.acq() >> 32));
  if (state.registers.aqa != in.aqa() || state.registers.asq != in.asq() || state.registers.acq != in.acq()) {
    return refuse("registers AQA {:#x}, ASQ {:#x}, ACQ {:#x} have reserved bits", in.aqa(), in.asq(), in.acq());
  }
  state.lines.restore(in.interrupt_mask());
  return {};
}

// What submission and completion queues have in common.
template <class Queue>
Result<void> check_queue(std::string_view kind, const Queue& in, std::size_t entry_size, const ControllerState& state) {
  const std::uint32_t largest = in.id() == 0 ? 4096 : kMaxQueueEntries;
  if (in.id() > state.io_queue_pairs) return refuse("{} queue {}: no such queue", kind, in.id());
  if (in.size() < 2 || in.size() > largest) {
    return refuse("{} queue {}: size {} is not 2 to {}", kind, in.id(), in.size(), largest);
  }
  if (in.head() >= in.size() || in.tail() >= in.size()) {
    return refuse("{} queue {}: head {} or tail {} beyond size {}", kind, in.id(), in.head(), in.tail(), in.size());
  }
  const std::uint64_t page = 1ULL << state.registers.configuration().page_shift();
  if (in.base() % page != 0 || in.base() > std::numeric_limits<std::uint64_t>::max() - (in.size() * entry_size)) {
    return refuse("{} queue {}: base {:#x} is misaligned or wraps", kind, in.id(), in.base());
  }
  return {};
}

Result<void> load_completion_queue(const state::CompletionQueue& in, ControllerState& state) {
  if (auto good = check_queue("completion", in, sizeof(Completion), state); !good) return good;
  if (state.queues.cq(in.id()) != nullptr) return refuse("completion queue {} is there twice", in.id());
  if (in.vector() >= kVectors) return refuse("completion queue {}: no interrupt vector {}", in.id(), in.vector());
  state.queues.add(CompletionQueue{.id = static_cast<std::uint16_t>(in.id()),
                                   .base = {in.base()},
                                   .size = in.size(),
                                   .head = in.head(),
                                   .tail = in.tail(),
                                   .phase = in.phase(),
                                   .vector = static_cast<std::uint16_t>(in.vector()),
                                   .interrupts = in.interrupts()});
  return {};
}

Result<void> load_submission_queue(const state::SubmissionQueue& in, ControllerState& state) {
  if (auto good = check_queue("submission", in, sizeof(Command), state); !good) return good;
  if (state.queues.sq(in.id()) != nullptr) return refuse("submission queue {} is there twice", in.id());
  if (in.completion_queue() > state.io_queue_pairs || state.queues.cq(in.completion_queue()) == nullptr ||
      (in.id() == 0) != (in.completion_queue() == 0)) {
    return refuse("submission queue {}: completion queue {} cannot be its", in.id(), in.completion_queue());
  }
  if (in.priority() > 3) return refuse("submission queue {}: no priority {}", in.id(), in.priority());
  state.queues.add(SubmissionQueue{.id = static_cast<std::uint16_t>(in.id()),
                                   .cq_id = static_cast<std::uint16_t>(in.completion_queue()),
                                   .base = {in.base()},
                                   .size = in.size(),
                                   .head = in.head(),
                                   .tail = in.tail(),
                                   .priority = static_cast<std::uint8_t>(in.priority())});
  return {};
}

Result<void> load_queues(const state::Controller& in, ControllerState& state) {
  const bool ready = state.registers.ready();
  if (!ready && (in.submission_queues_size() != 0 || in.completion_queues_size() != 0 || in.has_shadow_doorbells())) {
    return refuse("queues of a controller that is not ready");
  }
  for (const auto& queue : in.completion_queues()) {
    if (auto good = load_completion_queue(queue, state); !good) return good;
  }
  for (const auto& queue : in.submission_queues()) {
    if (auto good = load_submission_queue(queue, state); !good) return good;
  }
  if (ready && (state.queues.sq(0) == nullptr || state.queues.cq(0) == nullptr)) {
    return refuse("a ready controller without its admin queue");
  }
  if (static_cast<std::size_t>(in.doorbells_size()) != state.doorbell_words()) {
    return refuse("{} doorbells were saved, this controller has {}", in.doorbells_size(), state.doorbell_words());
  }
  for (int word = 0; word < in.doorbells_size(); ++word) {
    state.doorbells.store(static_cast<std::size_t>(word), in.doorbells(word));  // checked when they are taken
  }
  if (in.has_shadow_doorbells()) {
    const auto& shadow = in.shadow_doorbells();
    const std::uint64_t page = 1ULL << state.registers.configuration().page_shift();
    if (shadow.doorbells() % page != 0 || shadow.event_indices() % page != 0) {
      return refuse("shadow doorbells at {:#x} and {:#x} are misaligned", shadow.doorbells(), shadow.event_indices());
    }
    state.shadows.enable({shadow.doorbells()}, {shadow.event_indices()});
  }
  return {};
}

Result<void> load_features(const state::Features& in, ControllerState& state) {
  Features::Values values;
  values.arbitration = in.arbitration();
  values.power_management = in.power_management();
  values.over_temperature = static_cast<std::uint16_t>(in.over_temperature());
  values.under_temperature = static_cast<std::uint16_t>(in.under_temperature());
  values.error_recovery.assign(in.error_recovery().begin(), in.error_recovery().end());
  values.volatile_write_cache = in.volatile_write_cache();
  values.number_of_queues = in.number_of_queues();
  values.interrupt_coalescing = in.interrupt_coalescing();
  values.uncoalesced_vectors = in.uncoalesced_vectors();
  values.write_atomicity = in.write_atomicity();
  values.async_events = in.async_events();
  if (in.over_temperature() > 0xffff || in.under_temperature() > 0xffff || !state.features.restore(values)) {
    return refuse("features: a value that cannot be set");
  }
  return {};
}

Result<void> load_events(const state::AsyncEvents& in, ControllerState& state) {
  AsyncEvents::State events;
  if (static_cast<std::size_t>(in.requests_size()) > AsyncEvents::kMaxRequests ||
      static_cast<std::size_t>(in.pending_size()) > AsyncEvents::kMaxPending || in.silenced() > 3) {
    return refuse("{} event requests, {} pending events: more than there can be", in.requests_size(),
                  in.pending_size());
  }
  for (const std::uint32_t cid : in.requests()) {
    if (cid > 0xffff) return refuse("event request {:#x}: no command identifier", cid);
    events.requests.push_back(static_cast<std::uint16_t>(cid));
  }
  for (const auto& event : in.pending()) {
    if (event.type() > 1 || event.information() > 0xff || event.log_page() > 0xff) {
      return refuse("pending event of type {}", event.type());
    }
    events.pending.push_back({.type = static_cast<EventType>(event.type()),
                              .information = static_cast<std::uint8_t>(event.information()),
                              .log_page = static_cast<std::uint8_t>(event.log_page())});
  }
  events.silenced = static_cast<std::uint8_t>(in.silenced());
  if (!state.registers.ready() && !(events.requests.empty() && events.pending.empty())) {
    return refuse("event requests of a controller that is not ready");
  }
  state.events.restore(std::move(events));
  return {};
}

Result<void> load_logs(const state::Controller& in, ControllerState& state) {
  if (static_cast<std::size_t>(in.error_log_size()) > kErrorLogEntries) {
    return refuse("{} error log entries: more than {}", in.error_log_size(), kErrorLogEntries);
  }
  std::deque<ErrorLogEntry> errors;
  for (const std::string& bytes : in.error_log()) {
    const auto entry = load_at<ErrorLogEntry>(std::as_bytes(std::span(bytes)));
    if (!entry || bytes.size() != sizeof(ErrorLogEntry)) return refuse("error log entry of {} bytes", bytes.size());
    errors.push_back(*entry);
  }
  const state::Smart& smart = in.smart();
  state.logs.restore({.bytes_read = smart.bytes_read(),
                      .bytes_written = smart.bytes_written(),
                      .reads = smart.reads(),
                      .writes = smart.writes(),
                      .power_cycles = smart.power_cycles(),
                      .unsafe_shutdowns = smart.unsafe_shutdowns(),
                      .media_errors = smart.media_errors(),
                      .errors = smart.errors(),
                      .powered_seconds = smart.powered_seconds()},
                     std::move(errors));
  return {};
}

}  // namespace

std::string serialize(const ControllerState& state) {
  state::Controller out;
  save_identity(state, *out.mutable_identity());
  save_registers(state, *out.mutable_registers());
  save_queues(state, out);
  save_features(state.features.values(), *out.mutable_features());
  save_events(state.events.state(), *out.mutable_async_events());
  save_logs(state.logs, out);
  return out.SerializeAsString();
}

std::string serialize_identity(const ControllerState& state) {
  state::Identity out;
  save_identity(state, out);
  return out.SerializeAsString();
}

Result<void> check_identity(std::span<const std::byte> bytes, const ControllerState& state) {
  state::Identity in;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return refuse("it does not parse");
  }
  return check_identity(in, state);
}

Result<void> deserialize(std::span<const std::byte> bytes, ControllerState& state) {
  state::Controller in;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return refuse("section 'controller' does not parse");
  }
  if (auto good = check_identity(in.identity(), state); !good) return good;
  if (auto good = load_registers(in.registers(), state); !good) return good;
  if (auto good = load_queues(in, state); !good) return good;
  if (auto good = load_features(in.features(), state); !good) return good;
  if (auto good = load_events(in.async_events(), state); !good) return good;
  return load_logs(in, state);
}

}  // namespace gangway::nvme
