// Defects that drivers of the kernel have and no device behind a vfio-user socket can show: what a call does to its
// caller's memory, and calls of several threads that meet in the driver. Each is made in the handle, the good card is
// behind it, and the suite has to blame the clause and no other.
#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "unit/conformance/served_card.h"

namespace gangway::conformance {
namespace {

using namespace std::chrono_literals;

// Where calls hang, until the test is over.
class Trap {
 public:
  Result<void> hang() {
    std::unique_lock lock(mutex_);
    ++hanging_;
    changed_.wait(lock, [this] { return open_; });
    --hanging_;
    changed_.notify_all();
    return fail(ECANCELED, "hung until the test was over");
  }
  // What keeps a reader waiting, until then, too.
  void keep(Fd end) {
    const std::scoped_lock lock(mutex_);
    kept_.push_back(std::move(end));
  }
  void open() {
    std::unique_lock lock(mutex_);
    open_ = true;
    kept_.clear();
    changed_.notify_all();
    changed_.wait(lock, [this] { return hanging_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int hanging_ = 0;
  bool open_ = false;
  std::vector<Fd> kept_;
};

class FaultyHandle : public KernelLikeHandle {
 public:
  FaultyHandle(std::unique_ptr<DeviceHandle> inner, std::shared_ptr<Trap> trap)
      : KernelLikeHandle(std::move(inner)), trap_(std::move(trap)) {}

 protected:
  [[nodiscard]] Trap& trap() { return *trap_; }

 private:
  std::shared_ptr<Trap> trap_;
};

// Fills the caller's bitmap and does not add to it.
class ReportClearsCallersBits : public FaultyHandle {
 public:
  using FaultyHandle::FaultyHandle;
  Result<void> dma_logging_report(IovaRange range, std::uint64_t page_size, std::span<std::uint64_t> bitmap) override {
    std::ranges::fill(bitmap, 0);
    return FaultyHandle::dma_logging_report(range, page_size, bitmap);
  }
};

class DataSizeFailsOutsideSaving : public FaultyHandle {
 public:
  using FaultyHandle::FaultyHandle;
  Result<std::uint64_t> data_size() override {
    const Result<DeviceState> now = state();
    if (now && !contract::in_saving_group(*now)) return fail(EINVAL, "no migration is under way");
    return FaultyHandle::data_size();
  }
};

// Who reads on another thread than the one that sets states waits, and the end of the session does not wake him.
class ReaderIsNeverWoken : public FaultyHandle {
 public:
  using FaultyHandle::FaultyHandle;
  Result<void> set_state_number(std::uint32_t number) override {
    driver_ = std::this_thread::get_id();
    return FaultyHandle::set_state_number(number);
  }
  Result<StreamRead> read_data(std::span<std::byte> out) override {
    const bool beside = driver_.load() != std::this_thread::get_id();
    if (beside) return std::unexpected(trap().hang().error());
    return FaultyHandle::read_data(out);
  }

 private:
  std::atomic<std::thread::id> driver_;
};

// A reset takes the lock of the state and waits for the SET, which waits for the lock.
class ResetDeadlocksWithSet : public FaultyHandle {
 public:
  using FaultyHandle::FaultyHandle;
  Result<void> set_state_number(std::uint32_t number) override {
    driver_ = std::this_thread::get_id();
    return FaultyHandle::set_state_number(number);
  }
  Result<void> reset() override {
    const std::thread::id driver = driver_;
    const bool beside = driver != std::thread::id{} && driver != std::this_thread::get_id();
    return beside ? trap().hang() : FaultyHandle::reset();
  }

 private:
  std::atomic<std::thread::id> driver_;
};

// Each session has a data descriptor of its own, on which nothing comes: to see what becomes of it and of who reads it.
class WithDescriptor : public FaultyHandle {
 public:
  using FaultyHandle::FaultyHandle;
  Result<void> set_state_number(std::uint32_t number) override {
    const Result<DeviceState> from = state();
    Result<void> done = FaultyHandle::set_state_number(number);
    if (!done || !from) return done;
    const auto to = static_cast<DeviceState>(number);
    const bool saves = contract::in_saving_group(to) && !contract::in_saving_group(*from);
    if (saves || (to == DeviceState::Resuming && *from != to)) begin_session();
    return done;
  }
  Result<int> data_descriptor() override {
    if (!theirs_) return fail(EINVAL, "no session was begun");
    return theirs_.get();
  }

 protected:
  [[nodiscard]] Fd& driver_end() { return ours_; }
  void begin_session() {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    theirs_ = Fd(ends[0]);
    ours_ = Fd(ends[1]);
  }

 private:
  Fd theirs_;
  Fd ours_;  // with it goes whoever waits at the other end
};

// The last close leaves the session as it was, and a reader asleep in it.
class ReaderIsNotWokenAtClose : public WithDescriptor {
 public:
  using WithDescriptor::WithDescriptor;
  ~ReaderIsNotWokenAtClose() override { trap().keep(std::move(driver_end())); }
};

class DescriptorOfAFailedSet : public WithDescriptor {
 public:
  using WithDescriptor::WithDescriptor;
  Result<void> set_state_number(std::uint32_t number) override {
    Result<void> done = WithDescriptor::set_state_number(number);
    if (!done) trap().keep(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
    return done;
  }
};

class DescriptorWithoutASession : public WithDescriptor {
 public:
  using WithDescriptor::WithDescriptor;
  Result<void> set_state_number(std::uint32_t number) override {
    const Result<DeviceState> from = state();
    Result<void> done = WithDescriptor::set_state_number(number);
    const bool same = from && static_cast<std::uint32_t>(*from) == number;
    if (done && same) begin_session();
    return done;
  }
};

// Gives its stream in parts, as drivers do, and asks of a load no more than that the last part is whole.
class WholePartsAreEnough : public FaultyHandle {
 public:
  using FaultyHandle::FaultyHandle;
  Result<StreamRead> read_data(std::span<std::byte> out) override {
    const Result<StreamRead> read = FaultyHandle::read_data(out.first(std::min(out.size(), kPart - given_ % kPart)));
    if (read) given_ += read->size;
    return read;
  }
  Result<void> write_data(std::span<const std::byte> in) override {
    taken_ += in.size();
    return FaultyHandle::write_data(in);
  }
  Result<void> set_state_number(std::uint32_t number) override {
    const std::size_t taken = taken_.exchange(0);
    given_ = 0;
    const bool whole = taken != 0 && taken % kPart == 0;
    Result<void> done = FaultyHandle::set_state_number(number);
    if (done || !whole || number != static_cast<std::uint32_t>(DeviceState::Stop)) return done;
    if (Result<void> forgotten = FaultyHandle::reset(); !forgotten) return forgotten;
    return FaultyHandle::set_state_number(number);
  }

 private:
  static constexpr std::size_t kPart = 6007;  // no other test cuts there
  std::atomic<std::size_t> given_ = 0;        // a reader beside a SET is a test of its own
  std::atomic<std::size_t> taken_ = 0;
};

struct FaultyHandles : testing::Test {
  // What hangs costs the limit several times over, so it is asked about alone.
  template <class Handle>
  std::vector<std::string> failed(const Selection& selection = {}, std::chrono::milliseconds limit = 60s) {
    const ServedCard card("none");
    const auto trap = std::make_shared<Trap>();
    Settings settings = quick_settings(limit);
    settings.strict = true;
    const Report report = run_suite({.target = {.name = "faulty handle",
                                                .opener = [&]() -> Result<std::shared_ptr<DeviceHandle>> {
                                                  auto opened = open_device(card.target(), {.timeout = limit});
                                                  if (!opened) return std::unexpected(opened.error());
                                                  return std::make_shared<Handle>(std::move(*opened), trap);
                                                }},
                                     .peer = {},
                                     .settings = settings,
                                     .selection = selection,
                                     .waivers = {},
                                     .progress = {}});
    trap->open();
    std::vector<std::string> clauses;
    for (const ClauseResult& clause : report.clauses) {
      if (clause.verdict == Verdict::Fail) clauses.emplace_back(clause.clause->id);
    }
    return clauses;
  }
};

using Clauses = std::vector<std::string>;

const Selection kDescriptorTests{
    .select = {"descriptor_is_returned*", "failed_set_returns*", "descriptor_is_closed_on_exec*"}, .skip = {}};

TEST_F(FaultyHandles, one_that_does_nothing_wrong_passes) { EXPECT_EQ(failed<FaultyHandle>(), Clauses{}); }

TEST_F(FaultyHandles, a_report_that_clears_the_callers_bits_breaks_log_report) {
  EXPECT_EQ(failed<ReportClearsCallersBits>(), Clauses{"LOG-REPORT"});
}

TEST_F(FaultyHandles, a_data_size_that_fails_outside_a_save_breaks_data_size) {
  EXPECT_EQ(failed<DataSizeFailsOutsideSaving>(), Clauses{"DAT-SIZE"});
}

// A good handle's call takes microseconds; a hang costs the limit twice, for the act and for who waits in vain to open
// the device again.
constexpr std::chrono::milliseconds kHangs = 2s;

TEST_F(FaultyHandles, a_reader_that_is_never_woken_breaks_the_session) {
  EXPECT_EQ(failed<ReaderIsNeverWoken>({.select = {"set_wakes_a_reader"}, .skip = {}}, kHangs), Clauses{"DAT-SESSION"});
}

TEST_F(FaultyHandles, a_reader_that_is_woken_at_close_passes) {
  EXPECT_EQ(failed<WithDescriptor>({.select = {"close_during_read"}, .skip = {}}), Clauses{});
}

TEST_F(FaultyHandles, a_reader_that_is_not_woken_at_close_breaks_the_session) {
  EXPECT_EQ(failed<ReaderIsNotWokenAtClose>({.select = {"close_during_read"}, .skip = {}}, kHangs),
            Clauses{"DAT-SESSION"});
}

TEST_F(FaultyHandles, descriptors_where_sessions_begin_pass) {
  EXPECT_EQ(failed<WithDescriptor>(kDescriptorTests), Clauses{});
}

TEST_F(FaultyHandles, a_descriptor_of_a_failed_set_breaks_the_descriptors_clause) {
  EXPECT_EQ(failed<DescriptorOfAFailedSet>(kDescriptorTests), Clauses{"DAT-FD"});
}

TEST_F(FaultyHandles, a_descriptor_without_a_session_breaks_the_descriptors_clause) {
  EXPECT_EQ(failed<DescriptorWithoutASession>(kDescriptorTests), Clauses{"DAT-FD"});
}

TEST_F(FaultyHandles, a_load_that_asks_only_for_whole_parts_breaks_validation) {
  EXPECT_EQ(failed<WholePartsAreEnough>({.select = {"DAT-*"}, .skip = {}}), Clauses{"DAT-VALIDATE"});
}

TEST_F(FaultyHandles, a_reset_that_deadlocks_with_a_set_breaks_concurrency) {
  EXPECT_EQ(failed<ResetDeadlocksWithSet>({.select = {"reset_during_set"}, .skip = {}}, kHangs),
            Clauses{"RST-CONCURRENT"});
}

}  // namespace
}  // namespace gangway::conformance
