#include "record/call_watch.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include <gangway/device_handle.h>

#include "kernel/uapi.h"
#include "record/structures.h"

namespace gangway::record {
namespace {

using Call = CallRecord::Call;
using Role = CallRecord::Role;

constexpr std::size_t kMostArgument = 80U << 10;  // bytes of a structure: 4096 ranges of a log, and to spare
constexpr std::size_t kMostData = 4096;           // of an access to a region that are kept as they are
constexpr std::size_t kMostVectors = 1024;        // IOV_MAX

constexpr std::pair<long, Call> kCalls[] = {
#ifdef SYS_open
    {SYS_open, Call::Open},         {SYS_dup2, Call::Duplicate},
#endif
    {SYS_openat, Call::Open},       {SYS_openat2, Call::Open},   {SYS_ioctl, Call::Ioctl},
    {SYS_read, Call::Read},         {SYS_pread64, Call::Read},   {SYS_readv, Call::Read},
    {SYS_preadv, Call::Read},       {SYS_preadv2, Call::Read},   {SYS_write, Call::Write},
    {SYS_pwrite64, Call::Write},    {SYS_writev, Call::Write},   {SYS_pwritev, Call::Write},
    {SYS_pwritev2, Call::Write},    {SYS_mmap, Call::Mmap},      {SYS_close, Call::Close},
    {SYS_close_range, Call::Close}, {SYS_dup, Call::Duplicate},  {SYS_dup3, Call::Duplicate},
    {SYS_fcntl, Call::Duplicate},   {SYS_sendmsg, Call::Send},
};

bool is(const SystemCall& call, std::initializer_list<long> numbers) {
  return std::ranges::any_of(numbers, [&](long one) { return static_cast<std::uint64_t>(one) == call.number; });
}

bool has_offset(const SystemCall& call) {
  return is(call, {SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2});
}

bool is_vectored(const SystemCall& call) {
  return is(call, {SYS_readv, SYS_writev, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2});
}

// Where the bytes of an access lie in the caller's memory.
std::vector<iovec> vectors_of(const SystemCall& call, const TraceeMemory& memory) {
  if (!is_vectored(call)) return {{std::bit_cast<void*>(call.arguments[1]), call.arguments[2]}};
  const std::size_t count = std::min<std::uint64_t>(call.arguments[2], kMostVectors);
  std::vector<iovec> vectors(count);
  const auto bytes = memory.read(call.arguments[1], count * sizeof(iovec));
  vectors.resize(bytes.size() / sizeof(iovec));
  if (!vectors.empty()) std::memcpy(vectors.data(), bytes.data(), vectors.size() * sizeof(iovec));
  return vectors;
}

std::uint64_t length_of(const std::vector<iovec>& vectors) {
  std::uint64_t length = 0;
  for (const iovec& one : vectors) length += one.iov_len;
  return length;
}

}  // namespace

std::optional<CallWatch::UnderWay> CallWatch::before(pid_t process, pid_t thread, const SystemCall& call) {
  if (is(call, {SYS_io_uring_setup})) note_ring(process);
  const auto found = std::ranges::find(kCalls, static_cast<long>(call.number), &std::pair<long, Call>::first);
  if (found == std::end(kCalls)) return std::nullopt;
  UnderWay under_way{.call = call,
                     .record = {.time = now(), .process = process, .thread = thread, .call = found->second}};
  if (!concerns(under_way)) return std::nullopt;
  return under_way;
}

bool CallWatch::concerns(UnderWay& call) {
  switch (call.record.call) {
    case Call::Open:
      return true;  // what it leads to is known afterwards
    case Call::Mmap:
      call.record.offset = call.call.arguments[5];
      call.record.length = call.call.arguments[1];
      return take_object(call, call.call.descriptor(4));
    case Call::Close:
      return is(call.call, {SYS_close_range}) || take_object(call, call.call.descriptor());
    case Call::Duplicate:
      return duplicate_concerns(call);
    case Call::Send:
      return send_concerns(call);
    case Call::Ioctl:
    case Call::Read:
    case Call::Write:
      if (!take_object(call, call.call.descriptor())) return false;
      take_argument(call);
      return true;
    case Call::Munmap:
      return false;
  }
  return false;
}

bool CallWatch::take_object(UnderWay& call, int descriptor) {
  const VfioObject* object = objects_.find(call.record.process, descriptor);
  if (object == nullptr) return false;
  call.record.role = object->role;
  call.record.object = object->number;
  call.record.parent = object->parent;
  call.record.descriptor = descriptor;
  return true;
}

// A duplicate onto the number of another descriptor closes that one.
bool CallWatch::duplicate_concerns(UnderWay& call) {
  const auto command = static_cast<int>(call.call.arguments[1]);
  if (is(call.call, {SYS_fcntl}) && command != F_DUPFD && command != F_DUPFD_CLOEXEC) return false;
  if (take_object(call, call.call.descriptor())) return true;
  if (is(call.call, {SYS_fcntl, SYS_dup}) || !take_object(call, call.call.descriptor(1))) return false;
  call.record.call = Call::Close;
  call.record.text = "replaced by a duplicate of another";
  return true;
}

bool CallWatch::send_concerns(UnderWay& call) {
  const TraceeMemory memory(call.record.thread);
  const auto message = memory.read_as<msghdr>(call.call.arguments[1]);
  if (!message || message->msg_controllen == 0) return false;
  const auto control = memory.read(reinterpret_cast<std::uint64_t>(message->msg_control),
                                   std::min<std::size_t>(message->msg_controllen, 4096));
  for (std::size_t at = 0; at + sizeof(cmsghdr) <= control.size();) {
    const auto head = structure<cmsghdr>(control, at);
    const std::size_t end =
        std::min<std::size_t>(at + std::max<std::size_t>(head.cmsg_len, sizeof head), control.size());
    if (head.cmsg_level == SOL_SOCKET && head.cmsg_type == SCM_RIGHTS) {
      for (std::size_t i = at + CMSG_LEN(0); i + sizeof(int) <= end; i += sizeof(int)) {
        if (take_object(call, structure<int>(control, i))) return true;
      }
    }
    at += CMSG_ALIGN(end - at);
  }
  return false;
}

void CallWatch::take_argument(UnderWay& call) {
  CallRecord& record = call.record;
  const TraceeMemory memory(record.thread);
  if (record.call != Call::Ioctl) {
    if (has_offset(call.call)) record.offset = call.call.arguments[3];
    record.length = length_of(vectors_of(call.call, memory));
    return;
  }
  record.request = static_cast<std::uint32_t>(call.call.arguments[1]);
  call.ioctl = ioctl_kind(record.role, record.request);
  const std::uint64_t at = call.call.arguments[2];
  switch (call.ioctl.argument) {
    case Argument::None:
      record.length = at;
      break;
    case Argument::Text:
      record.text = memory.read_text(at);
      break;
    case Argument::Number:
      record.argument = memory.read(at, sizeof(std::uint32_t));
      break;
    case Argument::Sized:
      record.argument = memory.read(at, std::clamp<std::size_t>(memory.read_as<std::uint32_t>(at).value_or(0),
                                                                sizeof(std::uint32_t), kMostArgument));
      break;
  }
}

void CallWatch::note_ring(pid_t process) {
  if (!noted_rings_.insert(process).second) return;
  writer_.write(NoteRecord{
      .time = now(), .text = fmt::format("process {} uses io_uring: what it does by that is not recorded", process)});
}

void CallWatch::after(UnderWay under_way, std::int64_t result) {
  CallRecord& record = under_way.record;
  record.took = now() - record.time;
  record.result = result < 0 ? -1 : result;
  record.error = result < 0 ? static_cast<int>(-result) : 0;
  switch (record.call) {
    case Call::Open:
      return finish_open(record);
    case Call::Ioctl:
      finish_ioctl(under_way);
      break;
    case Call::Read:
    case Call::Write:
      finish_access(under_way);
      break;
    case Call::Duplicate:
      if (result >= 0 && result != record.descriptor) {  // dup2() of a descriptor onto itself does nothing
        objects_.closed(record.process, static_cast<int>(result));
        (void)objects_.find(record.process, static_cast<int>(result));
      }
      break;
    case Call::Close:
      if (is(under_way.call, {SYS_close_range})) return gone(record.process, record.thread, "close_range");
      objects_.closed(record.process, record.descriptor);
      break;
    default:
      break;
  }
  writer_.write(record);
}

void CallWatch::finish_open(CallRecord& record) {
  if (record.result < 0) return;
  const auto descriptor = static_cast<int>(record.result);
  objects_.closed(record.process, descriptor);
  const VfioObject* object = objects_.find(record.process, descriptor);
  if (object == nullptr) return;
  record.role = object->role;
  record.object = object->number;
  record.descriptor = descriptor;
  record.text = object->path;
  writer_.write(record);
}

void CallWatch::finish_ioctl(UnderWay& call) {
  CallRecord& record = call.record;
  const TraceeMemory memory(record.thread);
  if (call.ioctl.argument == Argument::Sized) {
    record.answer = memory.read(call.call.arguments[2], record.argument.size());
    if (record.answer == record.argument) record.answer.clear();
  }
  if (call.ioctl.ioctl == Ioctl::DeviceFeature) finish_feature(record, memory);
  if (record.result < 0) return;
  if (call.ioctl.ioctl == Ioctl::GroupGetDevice) {
    (void)objects_.add(record.process, static_cast<int>(record.result), Role::Device, record.object);
  }
  if (call.ioctl.ioctl == Ioctl::GroupSetContainer) join(record, structure<std::int32_t>(record.argument));
  if (call.ioctl.ioctl == Ioctl::BindIommufd) join(record, structure<kernel::BindIommufd>(record.argument).iommufd);
}

// From now on the object of this call belongs to what the descriptor leads to.
void CallWatch::join(CallRecord& record, int parent) {
  const VfioObject* const found = objects_.find(record.process, parent);
  if (found == nullptr) return;
  record.parent = found->number;
  if (VfioObject* const object = objects_.find(record.process, record.descriptor)) object->parent = record.parent;
}

// What a feature's structure points to, and a descriptor that it answers.
void CallWatch::finish_feature(CallRecord& record, const TraceeMemory& memory) {
  namespace wire = vfio_user;
  const auto header = structure<wire::FeatureHeader>(record.argument);
  const Bytes data = behind(record.argument, sizeof header);
  if ((header.flags & wire::kFeatureProbe) != 0) return;
  switch (static_cast<Feature>(header.flags & wire::kFeatureMask)) {
    case Feature::MigDeviceState: {
      const Bytes answered = behind(record.answer.empty() ? record.argument : record.answer, sizeof header);
      const auto state = structure<wire::FeatureDeviceState>(answered);
      const bool set = (header.flags & wire::kFeatureSet) != 0 && record.result >= 0;
      if (set && state.data_fd >= 0 && answered.size() >= sizeof state) {
        (void)objects_.add(record.process, state.data_fd, Role::MigrationData, record.object);
      }
      break;
    }
    case Feature::DmaLoggingStart: {
      const auto control = structure<wire::FeatureLoggingControl>(data);
      const auto ranges = structure<std::uint64_t>(data, sizeof control);
      record.pointed = memory.read(
          ranges, std::min<std::size_t>(std::size_t{control.ranges} * sizeof(wire::LoggingRange), kMostArgument));
      break;
    }
    case Feature::DmaLoggingReport: {
      const auto report = structure<wire::FeatureLoggingReport>(data);
      const auto bitmap = structure<std::uint64_t>(data, sizeof report);
      if (record.result < 0 || report.page_size == 0) break;
      constexpr std::uint64_t kWordBits = 64;
      const std::uint64_t words = (report.length / report.page_size + kWordBits) / kWordBits;
      take_payload(record, memory, bitmap,
                   std::min<std::uint64_t>(words * sizeof(std::uint64_t), wire::kMaxDirtyBitmap));
      break;
    }
    default:
      break;
  }
}

void CallWatch::finish_access(UnderWay& call) {
  CallRecord& record = call.record;
  std::uint64_t left = record.result < 0 ? 0 : static_cast<std::uint64_t>(record.result);
  const TraceeMemory memory(record.thread);
  const bool data = record.role == Role::MigrationData;
  std::vector<std::byte>& kept = record.call == Call::Read ? record.answer : record.argument;
  for (const iovec& one : vectors_of(call.call, memory)) {
    const std::uint64_t size = std::min<std::uint64_t>(one.iov_len, left);
    left -= size;
    std::uint64_t here = data ? 0 : std::min<std::uint64_t>(size, kMostData - std::min(kept.size(), kMostData));
    const auto at = reinterpret_cast<std::uint64_t>(one.iov_base);
    const auto bytes = memory.read(at, here);
    kept.insert(kept.end(), bytes.begin(), bytes.end());
    if (size > here) take_payload(record, memory, at + here, size - here);
  }
}

void CallWatch::take_payload(CallRecord& record, const TraceeMemory& memory, std::uint64_t address,
                             std::uint64_t size) {
  if (record.payload.size == 0) hash_.restart();
  const bool whole = memory.each_piece(address, size, [&](std::span<const std::byte> piece) {
    hash_.update(piece);
    if (keep_ == KeepPayload::Yes) writer_.write_payload(stream_of(record), piece);
  });
  record.payload.size += size;
  if (whole) record.payload.hash = hash_.value();
}

void CallWatch::gone(pid_t process, pid_t thread, const std::string& why) {
  for (const VfioObjects::Lost& one : objects_.lost(process)) {
    writer_.write(CallRecord{.time = now(),
                             .process = process,
                             .thread = thread,
                             .role = one.role,
                             .call = Call::Close,
                             .object = one.number,
                             .descriptor = one.descriptor,
                             .text = why,
                             .parent = one.parent});
  }
}

}  // namespace gangway::record
