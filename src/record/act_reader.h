// Acts out of a recording: puts requests and their answers together and says what they mean.
//
// Acts come in the order of their requests within a connection and a direction. What is not answered when its
// connection ends comes out unanswered. A recording of the kernel is read twice: which device a call is about may be
// known only behind it.
//
// Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gangway/error.h>

#include "record/act.h"
#include "record/call_acts.h"
#include "record/trace_file.h"

namespace gangway::record {

class ActReader {
 public:
  explicit ActReader(TraceReader reader) : reader_(std::move(reader)) {}
  static Result<ActReader> open(const std::filesystem::path& path);

  [[nodiscard]] const Meta& meta() const { return reader_.meta(); }
  // nullopt at the end.
  Result<std::optional<Act>> next();
  // All that are left.
  Result<std::vector<Act>> rest();

  // After the end: what is missing there, as TraceReader::cut.
  [[nodiscard]] const std::optional<std::string>& cut() const { return reader_.cut(); }
  // Messages that answered nothing.
  [[nodiscard]] std::uint64_t strays() const { return strays_; }
  // What the recorder had to say so far; a hundred of them at most.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct Pending {
    Act act;
    bool done = false;
    // Of a request that waits for its answer:
    std::uint64_t key = 0;
    MessageRecord request;
  };
  void learn();
  void take(Record record);
  void take(MessageRecord message);
  void take(ConnectionRecord connection);
  void take(const CallRecord& call);
  void give_up(std::uint32_t connection);

  TraceReader reader_;
  CallActs calls_;
  std::deque<Pending> pending_;
  std::vector<std::string> notes_;
  std::uint64_t strays_ = 0;
  bool learnt_ = false;
  bool ended_ = false;
};

// One message of a request, and the reply if there was one, as what it means. `reply` may be null.
Doing meaning_of(const MessageRecord& request, const MessageRecord* reply);

}  // namespace gangway::record
