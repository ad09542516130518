// DEVICE_FEATURE, checked in the order of the kernel's vfio_ioctl_device_feature and vfio_check_feature.
#include <algorithm>
#include <array>

#include <gangway/device_handle.h>

#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

struct FeatureCall {
  Session& session;
  FeatureHeader header;
  std::span<const std::byte> request;  // header and data
  Answer& answer;

  [[nodiscard]] std::span<const std::byte> data() const { return request.subspan(sizeof header); }
};

// The reply of GET: the header with the whole size, then what the feature has.
template <class... Parts>
Result<void> answer_get(const FeatureCall& call, const Parts&... parts) {
  const std::uint64_t size = (sizeof(FeatureHeader) + ... + sizeof(Parts));
  if (Result<void> fits = check_argsz("DEVICE_FEATURE", call.header.argsz, size); !fits) return fits;
  call.answer.put(FeatureHeader{.argsz = static_cast<std::uint32_t>(size), .flags = call.header.flags});
  (call.answer.put(parts), ...);
  return {};
}

// The reply of SET and PROBE is the request.
Result<void> answer_echo(const FeatureCall& call) {
  if (Result<void> fits = check_argsz("DEVICE_FEATURE", call.header.argsz, call.request.size()); !fits) return fits;
  call.answer.refer(call.request);
  return {};
}

template <class T>
Result<T> data_of(const FeatureCall& call) {
  if (const std::optional<T> value = load_at<T>(call.data())) return *value;
  return fail(EINVAL,
              fmt::format("DEVICE_FEATURE {}: {} bytes of data, {} are needed", call.header.flags & kFeatureMask,
                          call.data().size(), sizeof(T)),
              "WIR-FRAME");
}

// --- migration ---

Result<void> get_migration(const FeatureCall& call) {
  return answer_get(call, FeatureMigration{call.session.endpoint.migration()->flags().bits()});
}

Result<void> get_state(const FeatureCall& call) {
  const DeviceState state = call.session.endpoint.migration()->state();
  return answer_get(call, FeatureDeviceState{.state = static_cast<std::uint32_t>(state)});
}

Result<void> set_state(const FeatureCall& call) {
  const Result<FeatureDeviceState> wanted = data_of<FeatureDeviceState>(call);
  if (!wanted) return std::unexpected(wanted.error());
  if (Result<void> echoed = answer_echo(call); !echoed) return echoed;
  if (Result<void> free = call.session.endpoint.drive(Revision::V2); !free) return free;
  return call.session.endpoint.migration()->set_state(wanted->state);
}

Result<void> get_data_size(const FeatureCall& call) {
  return answer_get(call, FeatureDataSize{call.session.endpoint.migration()->data_size()});
}

Result<void> opt_in_to_precopy_info_v2(const FeatureCall& call) {
  if (!call.session.endpoint.migration()->flags().pre_copy) {
    return fail(EINVAL, "PRECOPY_INFOv2: the device has no pre-copy", "PRE-INFO-V2");
  }
  if (Result<void> echoed = answer_echo(call); !echoed) return echoed;
  call.session.negotiated->precopy_info_v2 = true;
  return {};
}

Result<void> get_precopy_info(const FeatureCall& call) {
  Migration& migration = *call.session.endpoint.migration();
  const bool opted_in = call.session.negotiated->precopy_info_v2;
  const Result<PrecopyInfo> info = opted_in ? migration.precopy_info_v2() : migration.precopy_info();
  if (!info) return std::unexpected(info.error());
  const bool reinit = info->reinit && opted_in;
  return answer_get(call, FeaturePrecopyInfo{.argsz = sizeof(FeaturePrecopyInfo),
                                             .flags = reinit ? kPrecopyReinit : 0,
                                             .initial_bytes = info->initial_bytes,
                                             .dirty_bytes = info->dirty_bytes});
}

// The first to ask makes it; it lives as long as the connection.
Result<void> get_shared_data(const FeatureCall& call) {
  std::optional<SharedMemory>& shared = call.session.shared;
  if (!shared) {
    Result<SharedMemory> made = SharedMemory::create(kSharedDataSize);
    if (!made) return std::unexpected(made.error());
    shared.emplace(*std::move(made));
  }
  if (Result<void> answered = answer_get(call, FeatureSharedDataSize{shared->size()}); !answered) return answered;
  call.answer.send_fd(shared->file());
  return {};
}

// --- DMA logging ---

Result<std::vector<IovaRange>> ranges_of(const FeatureCall& call, const FeatureLoggingControl& control) {
  if (control.ranges > DmaLog::kMaxRanges) {
    return fail(E2BIG, fmt::format("DMA_LOGGING_START: {} ranges, at most {}", control.ranges, DmaLog::kMaxRanges),
                "LOG-START");
  }
  const std::span<const std::byte> bytes = call.data().subspan(sizeof control);
  if (bytes.size() != control.ranges * sizeof(LoggingRange)) {
    return fail(EINVAL, fmt::format("DMA_LOGGING_START: {} ranges in {} bytes", control.ranges, bytes.size()),
                "WIR-FRAME");
  }
  std::vector<IovaRange> ranges;
  for (std::size_t i = 0; i < control.ranges; ++i) {
    const auto range = *load_at<LoggingRange>(bytes, i * sizeof(LoggingRange));
    ranges.push_back({{range.iova}, range.length});
  }
  return ranges;
}

Result<void> start_logging(const FeatureCall& call) {
  Result<FeatureLoggingControl> control = data_of<FeatureLoggingControl>(call);
  if (!control) return std::unexpected(control.error());
  const Result<std::vector<IovaRange>> ranges = ranges_of(call, *control);
  if (!ranges) return std::unexpected(ranges.error());
  if (Result<void> fits = check_argsz("DMA_LOGGING_START", call.header.argsz, call.request.size()); !fits) return fits;
  DmaLog& log = call.session.endpoint.log();
  // Without a range every write is logged; so has vfio-user it, unlike the kernel.
  const Result<std::uint64_t> page_size =
      ranges->empty() ? log.start_all(control->page_size) : log.start(*ranges, control->page_size);
  if (!page_size) return std::unexpected(page_size.error());
  control->page_size = *page_size;
  call.answer.put(call.header);
  call.answer.put(*control);
  call.answer.refer(call.data().subspan(sizeof *control));
  return {};
}

Result<void> stop_logging(const FeatureCall& call) {
  if (Result<void> echoed = answer_echo(call); !echoed) return echoed;
  return call.session.endpoint.log().stop();
}

Result<void> report_logging(const FeatureCall& call) {
  const Result<FeatureLoggingReport> asked = data_of<FeatureLoggingReport>(call);
  if (!asked) return std::unexpected(asked.error());
  const std::uint64_t fixed = sizeof call.header + sizeof *asked;
  if (Result<void> fits = check_argsz("DMA_LOGGING_REPORT", call.header.argsz, fixed); !fits) return fits;
  Result<DirtyReport> report = call.session.endpoint.log().report({{asked->iova}, asked->length}, asked->page_size,
                                                                  std::min(call.header.argsz - fixed, kMaxDirtyBitmap));
  if (!report) return std::unexpected(report.error());
  const std::size_t size = report->total_words * sizeof(std::uint64_t);
  call.answer.put(FeatureHeader{.argsz = static_cast<std::uint32_t>(fixed + size), .flags = call.header.flags});
  call.answer.put(*asked);
  call.answer.put_bitmap(*std::move(report), size);
  return {};
}

// --- the table ---

bool always(const Session&) { return true; }
bool migrates(const Session& session) { return session.endpoint.exposes(Revision::V2); }
bool shares_data(const Session& session) { return migrates(session) && session.negotiated->server.shared_data; }
bool tells_precopy_info(const Session& session) { return migrates(session) && session.negotiated->server.precopy_info; }

using FeatureHandler = Result<void> (*)(const FeatureCall&);
struct Entry {
  std::uint16_t feature;
  bool (*present)(const Session&);
  bool of_v2;  // refused to a client that drives another revision (V1-ONE); what merely finds v2 is not
  FeatureHandler get;
  FeatureHandler set;
};
constexpr std::uint16_t number(Feature feature) { return static_cast<std::uint16_t>(feature); }

// clang-format off
constexpr std::array kFeatures{
    Entry{number(Feature::Migration),        migrates,           false, get_migration,    nullptr},
    Entry{number(Feature::MigDeviceState),   migrates,           true,  get_state,        set_state},
    Entry{number(Feature::DmaLoggingStart),  always,             false, nullptr,          start_logging},
    Entry{number(Feature::DmaLoggingStop),   always,             false, nullptr,          stop_logging},
    Entry{number(Feature::DmaLoggingReport), always,             false, report_logging,   nullptr},
    Entry{number(Feature::MigDataSize),      migrates,           true,  get_data_size,    nullptr},
    Entry{number(Feature::MigPrecopyInfoV2), tells_precopy_info, true,  nullptr,          opt_in_to_precopy_info_v2},
    Entry{kFeaturePrecopyInfo,               tells_precopy_info, true,  get_precopy_info, nullptr},
    Entry{kFeatureSharedData,                shares_data,        true,  get_shared_data,  nullptr},
};
// clang-format on

}  // namespace

Result<void> handle_feature(Session& session, const Request& request, Answer& answer) {
  const FeatureCall call{session, fixed_part<FeatureHeader>(request), request.body, answer};
  const std::uint32_t flags = call.header.flags;
  const bool get = (flags & kFeatureGet) != 0;
  const bool set = (flags & kFeatureSet) != 0;
  const bool probe = (flags & kFeatureProbe) != 0;
  if (Result<void> fits = check_argsz("DEVICE_FEATURE", call.header.argsz, sizeof call.header); !fits) return fits;
  if ((flags & ~(kFeatureMask | kFeatureGet | kFeatureSet | kFeatureProbe)) != 0 || (get && set && !probe)) {
    return fail(EINVAL, fmt::format("DEVICE_FEATURE: flags {:#x} are unknown or exclude each other", flags));
  }
  const Entry* entry = std::ranges::find(kFeatures, flags & kFeatureMask, &Entry::feature);
  if (entry == kFeatures.end() || !entry->present(session)) {
    return fail(ENOTTY, fmt::format("DEVICE_FEATURE {}: the device has no such feature", flags & kFeatureMask));
  }
  if ((get && entry->get == nullptr) || (set && entry->set == nullptr) || (!get && !set && !probe)) {
    return fail(EINVAL, fmt::format("DEVICE_FEATURE {}: flags {:#x} are not served", entry->feature, flags));
  }
  if (probe) return answer_echo(call);
  if (entry->of_v2) {
    if (Result<void> free = session.endpoint.look(Revision::V2); !free) return free;
  }
  return get ? entry->get(call) : entry->set(call);
}

}  // namespace gangway::vfio_user
