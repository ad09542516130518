// What a thread's system calls have to do with VFIO, and their records.
//
// A call is looked at twice: before it, for what it is given and for its descriptor, which it may close; and after it.
//
// Thread-safety: one thread at a time.
#pragma once

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "record/ioctls.h"
#include "record/payload_hash.h"
#include "record/record.h"
#include "record/scribe.h"
#include "record/trace_file.h"
#include "record/tracee_memory.h"
#include "record/vfio_objects.h"

namespace gangway::record {

struct SystemCall {
  std::uint64_t number = 0;
  std::array<std::uint64_t, 6> arguments{};

  [[nodiscard]] int descriptor(std::size_t argument = 0) const { return static_cast<int>(arguments.at(argument)); }
};

class CallWatch {
 public:
  using Clock = std::chrono::steady_clock;

  CallWatch(TraceWriter& writer, VfioObjects& objects, Clock::time_point began, KeepPayload keep)
      : writer_(writer), objects_(objects), began_(began), keep_(keep) {}

  // A call that is to be looked at again.
  struct UnderWay {
    SystemCall call;
    CallRecord record;
    IoctlKind ioctl{};  // of an ioctl
  };
  // nullopt for a call that has nothing to do with VFIO.
  std::optional<UnderWay> before(pid_t process, pid_t thread, const SystemCall& call);
  // `result` as the kernel gives it: negative for an error.
  void after(UnderWay under_way, std::int64_t result);

  void forked(pid_t parent, pid_t child) { objects_.forked(parent, child); }
  // Descriptors that went with a program or a process are closed.
  void gone(pid_t process, pid_t thread, const std::string& why);

  [[nodiscard]] Time now() const { return Clock::now() - began_; }

 private:
  [[nodiscard]] bool concerns(UnderWay& call);
  [[nodiscard]] bool take_object(UnderWay& call, int descriptor);
  [[nodiscard]] bool duplicate_concerns(UnderWay& call);
  [[nodiscard]] bool send_concerns(UnderWay& call);
  void take_argument(UnderWay& call);
  void note_ring(pid_t process);

  void finish_open(CallRecord& record);
  void finish_ioctl(UnderWay& call);
  void join(CallRecord& record, int parent);
  void finish_feature(CallRecord& record, const TraceeMemory& memory);
  void finish_access(UnderWay& call);
  void take_payload(CallRecord& record, const TraceeMemory& memory, std::uint64_t address, std::uint64_t size);

  TraceWriter& writer_;
  VfioObjects& objects_;
  const Clock::time_point began_;
  const KeepPayload keep_;
  PayloadHash hash_;
  std::set<pid_t> noted_rings_;
};

}  // namespace gangway::record
