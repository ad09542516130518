// The device under test. Every act on it is a line of the journal, ends within a time limit, and may fail without
// harming the suite.
//
// An act that hangs leaves the device lost: its connection is given up, and further acts fail until it is opened again.
// The same act in the same state is not tried a second time, so that a hang costs its time limit once.
//
// Thread-safety: one thread, except alongside(), which runs its work at the same time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gangway/device_handle.h>

#include "conformance/journal.h"
#include "conformance/lane.h"
#include "conformance/report.h"
#include "conformance/stream.h"

namespace gangway::conformance {

// Opens the device anew. Called on a lane, so it may block.
using Opener = std::function<Result<std::shared_ptr<DeviceHandle>>()>;

// Acts that hung: not tried again.
using Hangs = std::set<std::string, std::less<>>;

class Subject {
 public:
  struct Options {
    std::chrono::milliseconds limit{10'000};  // for one act
    std::string prefix;                       // before each line of the journal: "peer "
    Coverage* coverage = nullptr;             // counts the SETs
  };
  Subject(Opener opener, Journal& journal, Hangs& hangs, Options options);
  ~Subject();

  // --- acts ---
  Result<void> open();  // closes before
  void close();
  Result<void> reset();
  // To RUNNING, if it is not there: a state that is held over a close crashes some kernels. By a reset, else by the
  // interface that drove it.
  Result<void> rest();
  Result<void> set(DeviceState state) { return set_number(static_cast<std::uint32_t>(state)); }
  Result<void> set_number(std::uint32_t state);
  Result<DeviceState> get();
  Result<DeviceState> peek();  // get(), without a line
  Result<std::uint64_t> data_size();
  Result<PrecopyInfo> precopy_info();
  Result<void> close_data();

  // Up to `size` bytes into received().
  Result<StreamRead> read(std::size_t size);
  // To the end that the session has now, in pieces. ENOSPC and EFBIG as DataBound has them.
  Result<StreamRead> read_all(std::size_t piece = kPiece);
  // What was read since the session began.
  [[nodiscard]] const Bytes& received() const { return received_; }
  void keep();  // received() is the good stream from now on
  // Where reads of the good stream ended short of what was asked for: edges that the device made.
  [[nodiscard]] const std::vector<std::size_t>& good_edges() const { return good_edges_; }

  [[nodiscard]] const Bytes& good() const { return good_; }
  void give(Bytes good) { good_ = std::move(good), good_edges_.clear(), choose({}); }
  // What write() sends: a variant of the good stream, from its start.
  void choose(const Variant& variant);
  [[nodiscard]] const Bytes& sending() const { return sending_; }
  [[nodiscard]] std::size_t sent() const { return sent_; }
  Result<void> write(std::size_t size);
  Result<void> write_all(std::size_t piece = kPiece);  // the rest

  Result<void> read_region(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out);
  Result<void> write_region(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in);

  // Any other work on the device, as one act.
  Result<void> perform(std::string_view line, std::function<Result<void>(DeviceHandle&)> work);
  // The same, returning something.
  template <class T>
  Result<T> ask(std::string_view line, std::function<Result<T>(DeviceHandle&)> work);

  // Further acts are carried out by a new thread: some userspaces change it in the middle.
  void change_thread();

  // --- two things at once ---
  // Work on the device beside the next acts. One at a time; `wait` returns its result, ETIMEDOUT if it hangs: after the
  // time limit of so many acts.
  void alongside(std::string_view line, unsigned acts, std::function<Result<void>(DeviceHandle&)> work);
  // Work that does not hold the device open: a close() meanwhile closes it.
  void alongside(std::string_view line, unsigned acts, std::function<Result<void>()> work);
  Result<void> wait();

  // It was driven by another interface than the acts here: its state is not known any more.
  void lose_track() { state_.reset(); }
  // How that interface brings it to RUNNING where it cannot be reset; for this connection.
  using WayHome = std::function<Result<void>(DeviceHandle&)>;
  void remember_way_home(WayHome way) { way_home_ = std::move(way); }

  // --- what became of it ---
  [[nodiscard]] bool lost() const { return !handle_; }
  // Why it was lost, if it was.
  [[nodiscard]] const std::string& why_lost() const { return why_lost_; }
  // The state that the last successful act left it in.
  [[nodiscard]] std::optional<DeviceState> last_state() const { return state_; }
  [[nodiscard]] std::chrono::milliseconds limit() const { return options_.limit; }
  [[nodiscard]] const std::shared_ptr<DeviceHandle>& handle() const { return handle_; }

  static constexpr std::size_t kPiece = 64U << 10;
  static constexpr std::size_t kMostData = 1U << 30;  // where nothing says how much there is

 private:
  template <class T>
  Result<T> call(std::string_view line, std::function<Result<T>(DeviceHandle&)> work, unsigned limits = 1);
  template <class T>
  Result<T> carry_out(std::string_view line, std::function<Result<T>(DeviceHandle&)> work, unsigned limits);
  void note(const Error& error);
  Error lose(std::string why);
  [[nodiscard]] std::string memo(std::string_view line) const;
  Result<StreamRead> read_pieces(std::string_view line, std::size_t piece);
  Result<void> write_pieces(std::string_view line, std::size_t size, std::size_t piece);
  void session_changes(DeviceState now);

  const Opener opener_;
  Journal& journal_;
  Hangs& hangs_;
  const Options options_;
  std::optional<Lane> lane_ = std::make_optional<Lane>();
  std::shared_ptr<DeviceHandle> handle_;
  std::string why_lost_ = "it was not opened";
  std::optional<DeviceState> state_;
  WayHome way_home_;
  Bytes received_;
  std::vector<std::size_t> edges_;  // of it
  Bytes good_;
  std::vector<std::size_t> good_edges_;
  Bytes sending_;
  std::size_t sent_ = 0;

  std::optional<Lane> beside_;
  unsigned beside_limits_ = 1;
  std::shared_ptr<std::optional<Result<void>>> beside_result_;
};

// "EINVAL: no way from ..." for journals and messages.
[[nodiscard]] std::string to_text(const Error& error);
// Whether an error says that there is nobody any more, as opposed to a refusal.
[[nodiscard]] bool is_loss(const Error& error);

template <class T>
Result<T> Subject::ask(std::string_view line, std::function<Result<T>(DeviceHandle&)> work) {
  auto value = std::make_shared<std::optional<T>>();
  Result<void> done = perform(line, [value, work = std::move(work)](DeviceHandle& device) -> Result<void> {
    Result<T> got = work(device);
    if (!got) return std::unexpected(got.error());
    *value = *std::move(got);
    return {};
  });
  if (!done) return std::unexpected(done.error());
  return **std::move(value);
}

}  // namespace gangway::conformance
