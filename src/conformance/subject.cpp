#include "conformance/subject.h"

#include <string.h>

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "base/bytes.h"
#include "conformance/data_bound.h"

namespace gangway::conformance {
namespace {

// A handle gives up by itself mostly; this is for those that cannot.
constexpr std::chrono::milliseconds kBeyondLimit{1000};

// Many small accesses are one act and have more time than a single one. A handle that knows the limit of each ends by
// itself long before.
constexpr unsigned kLimitsForPieces = 6;
constexpr std::size_t kPiecesInLimit = 256;

unsigned limits_for(std::size_t bytes, std::size_t piece) {
  return kLimitsForPieces + static_cast<unsigned>(bytes / std::max<std::size_t>(piece, 1) / kPiecesInLimit);
}

std::string errno_name(int code) {
  const char* const name = ::strerrorname_np(code);
  return name != nullptr ? name : fmt::format("error {}", code);
}

// A register's value.
std::string hex(std::span<const std::byte> little_endian) {
  std::uint64_t value = 0;
  std::ranges::copy(little_endian, std::as_writable_bytes(std::span(&value, 1)).begin());
  return fmt::format("{:#x}", value);
}

std::string_view to_text(StreamEnd end) {
  constexpr std::array<std::string_view, 3> kTexts{"", ", a temporary end (ENOMSG)", ", the end"};
  return kTexts.at(static_cast<std::size_t>(end));
}

}  // namespace

std::string to_text(const Error& error) { return fmt::format("{}: {}", errno_name(error.code), error.message); }

bool is_loss(const Error& error) {
  constexpr std::array kCodes{ETIMEDOUT, ECONNRESET, EPIPE, ENOTCONN, EPROTO, ECANCELED, ENODEV};
  return std::ranges::find(kCodes, error.code) != kCodes.end();
}

Subject::Subject(Opener opener, Journal& journal, Hangs& hangs, Options options)
    : opener_(std::move(opener)), journal_(journal), hangs_(hangs), options_(std::move(options)) {}

Subject::~Subject() {
  if (beside_) (void)wait();
  if (handle_) lane_->run([handle = std::move(handle_)]() mutable { handle.reset(); }, options_.limit + kBeyondLimit);
}

// --- calls ---

std::string Subject::memo(std::string_view line) const {
  return fmt::format("{} in {}", line, state_ ? contract::name(*state_) : "an unknown state");
}

Error Subject::lose(std::string why) {
  // The thread that hangs may hold the handle for longer; it is closed when that thread lets go.
  handle_.reset();
  state_.reset();
  why_lost_ = std::move(why);
  return {ETIMEDOUT, why_lost_, {}};
}

void Subject::note(const Error& error) {
  journal_.outcome(errno_name(error.code));
  if (!is_loss(error) || !handle_) return;
  // A device may well refuse with one of these; a connection that is gone answers nothing at all.
  auto answered = std::make_shared<std::optional<Error>>();
  const bool ended = lane_->run(
      [handle = handle_, answered] {
        const Result<DeviceHandle::Info> info = handle->info();
        if (!info) *answered = info.error();
      },
      options_.limit + kBeyondLimit);
  if (ended && !*answered) return;
  (void)lose(fmt::format("the connection ended: {}", error.message));
}

template <class T>
Result<T> Subject::call(std::string_view line, std::function<Result<T>(DeviceHandle&)> work, unsigned limits) {
  journal_.act(options_.prefix + std::string(line));
  return carry_out<T>(line, std::move(work), limits);
}

template <class T>
Result<T> Subject::carry_out(std::string_view line, std::function<Result<T>(DeviceHandle&)> work, unsigned limits) {
  if (!handle_) return fail(ENOTCONN, fmt::format("{}: {}", line, why_lost_));
  const std::string key = memo(line);
  if (hangs_.contains(key)) {
    (void)lose(fmt::format("'{}' hung before and is not tried again", key));
    return fail(ETIMEDOUT, why_lost_);
  }
  auto result = std::make_shared<std::optional<Result<T>>>();
  const auto limit = options_.limit * limits;
  const auto begin = std::chrono::steady_clock::now();
  const bool ended =
      lane_->run([result, handle = handle_, work = std::move(work)] { *result = work(*handle); }, limit + kBeyondLimit);
  const bool timed_out = !ended || (!**result && (**result).error().code == ETIMEDOUT &&
                                    std::chrono::steady_clock::now() - begin >= options_.limit);
  if (timed_out) {
    hangs_.insert(key);
    journal_.outcome("hangs");
    return std::unexpected(lose(fmt::format("'{}' did not end within {} ms", key, limit.count())));
  }
  if (!**result) note((**result).error());
  return **std::move(result);
}

Result<void> Subject::perform(std::string_view line, std::function<Result<void>(DeviceHandle&)> work) {
  return call<void>(line, std::move(work), kLimitsForPieces);
}

// --- acts ---

Result<void> Subject::open() {
  close();
  journal_.act(options_.prefix + "open");
  auto result = std::make_shared<std::optional<Result<std::shared_ptr<DeviceHandle>>>>();
  const bool ended = lane_->run([result, opener = opener_] { *result = opener(); }, options_.limit + kBeyondLimit);
  if (!ended || !**result) {
    why_lost_ =
        ended ? (**result).error().message : fmt::format("open did not end within {} ms", options_.limit.count());
    journal_.outcome(ended ? errno_name((**result).error().code) : "hangs");
    return fail(ended ? (**result).error().code : ETIMEDOUT, why_lost_);
  }
  handle_ = ***std::move(result);
  way_home_ = nullptr;
  session_changes(DeviceState::Running);
  choose({});
  return {};
}

void Subject::close() {
  if (!handle_) return;
  journal_.act(options_.prefix + "close");
  const bool ended =
      lane_->run([handle = std::move(handle_)]() mutable { handle.reset(); }, options_.limit + kBeyondLimit);
  handle_.reset();
  why_lost_ = "it is closed";
  state_.reset();
  if (!ended) journal_.outcome("hangs");
}

Result<void> Subject::reset() {
  Result<void> done = call<void>("reset", [](DeviceHandle& device) { return device.reset(); });
  if (done) session_changes(DeviceState::Running);
  return done;
}

Result<void> Subject::rest() {
  if (lost() || state_ == DeviceState::Running) return {};
  Result<void> done = reset();
  if (done || lost()) return done;
  if (!way_home_) return set(DeviceState::Running);
  done = perform("work back to RUNNING by the migration region", way_home_);
  if (done) session_changes(DeviceState::Running);
  return done;
}

Result<void> Subject::set_number(std::uint32_t number) {
  const auto state = static_cast<DeviceState>(number);
  const bool named = number < kDeviceStates;
  const std::optional<DeviceState> from = state_;
  Result<void> done =
      call<void>(fmt::format("set {}", named ? std::string(contract::name(state)) : std::to_string(number)),
                 [number](DeviceHandle& device) { return device.set_state_number(number); });
  if (options_.coverage != nullptr && from && named) {
    auto& counts = done ? options_.coverage->done : options_.coverage->failed;
    ++counts.at(static_cast<std::size_t>(*from)).at(number);
  }
  if (done && named) session_changes(state);
  return done;
}

// A stream begins where a session does (DAT-SESSION).
void Subject::session_changes(DeviceState now) {
  const bool was_saving = state_ && contract::in_saving_group(*state_);
  const bool was_loading = state_ == DeviceState::Resuming;
  if (contract::in_saving_group(now) && !was_saving) {
    received_.clear();
    edges_.clear();
  }
  if (now == DeviceState::Resuming && !was_loading) sent_ = 0;
  state_ = now;
}

Result<DeviceState> Subject::get() {
  Result<DeviceState> state = call<DeviceState>("get", [](DeviceHandle& device) { return device.state(); });
  if (state) journal_.outcome(contract::name(*state));
  return state;
}

Result<DeviceState> Subject::peek() {
  return carry_out<DeviceState>("get", [](DeviceHandle& device) { return device.state(); }, 1);
}

Result<std::uint64_t> Subject::data_size() {
  Result<std::uint64_t> size = call<std::uint64_t>("size", [](DeviceHandle& device) { return device.data_size(); });
  if (size) journal_.outcome(fmt::format("{} bytes", *size));
  return size;
}

Result<PrecopyInfo> Subject::precopy_info() {
  Result<PrecopyInfo> info = call<PrecopyInfo>("info", [](DeviceHandle& device) { return device.precopy_info(); });
  if (info) {
    journal_.outcome(
        fmt::format("initial {}, dirty {}{}", info->initial_bytes, info->dirty_bytes, info->reinit ? ", REINIT" : ""));
  }
  return info;
}

Result<void> Subject::close_data() {
  return call<void>("close data", [](DeviceHandle& device) { return device.close_data(); });
}

// --- migration data ---

Result<StreamRead> Subject::read_pieces(std::string_view line, std::size_t piece) {
  struct Got {
    Bytes bytes;
    std::vector<std::size_t> edges;
    StreamEnd end = StreamEnd::More;
  };
  auto got = std::make_shared<Got>();
  const auto work = [got, piece, bound = DataBound(good_.size())](DeviceHandle& device) mutable -> Result<StreamRead> {
    Bytes room(piece);
    do {
      const Result<StreamRead> read = device.read_data(room);
      if (!read) return read;
      got->bytes.insert(got->bytes.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(read->size));
      if (read->size != 0 && read->size < piece) got->edges.push_back(got->bytes.size());
      got->end = read->size == 0 ? read->end : StreamEnd::More;
      if (auto admitted = bound.admit(got->bytes.size(), [&] { return device.data_size(); }); !admitted) {
        return std::unexpected(admitted.error());
      }
    } while (got->end == StreamEnd::More);
    return StreamRead{got->bytes.size(), got->end};
  };
  Result<StreamRead> read = call<StreamRead>(line, work, limits_for(good_.size(), piece));
  // Data that came before a failure belongs to the session all the same; a thread that hangs still writes to it.
  if (!lost()) {
    for (const std::size_t edge : got->edges) edges_.push_back(received_.size() + edge);
    received_.insert(received_.end(), got->bytes.begin(), got->bytes.end());
  }
  if (read) journal_.outcome(fmt::format("{} bytes{}", read->size, to_text(read->end)));
  return read;
}

Result<StreamRead> Subject::read(std::size_t size) {
  auto room = std::make_shared<Bytes>(size);
  const auto work = [room](DeviceHandle& device) { return device.read_data(*room); };
  Result<StreamRead> read = call<StreamRead>(fmt::format("read {}", size), work);
  if (!read) return read;
  received_.insert(received_.end(), room->begin(), room->begin() + static_cast<std::ptrdiff_t>(read->size));
  if (read->size != 0) read->end = StreamEnd::More;  // an end is a read of nothing
  journal_.outcome(fmt::format("{} bytes{}", read->size, to_text(read->end)));
  return read;
}

Result<StreamRead> Subject::read_all(std::size_t piece) {
  const std::string line = piece == kPiece ? std::string("read all") : fmt::format("read all by {}", piece);
  return read_pieces(line, piece);
}

void Subject::keep() {
  journal_.act(options_.prefix + "keep");
  good_ = received_;
  good_edges_ = edges_;
  sending_ = good_;
  sent_ = 0;
}

void Subject::choose(const Variant& variant) {
  if (variant.kind != Variant::Kind::Good) journal_.act(fmt::format("{}stream {}", options_.prefix, to_text(variant)));
  sending_ = spoil(variant, good_);
  sent_ = 0;
}

Result<void> Subject::write_pieces(std::string_view line, std::size_t size, std::size_t piece) {
  const auto first = sending_.begin() + static_cast<std::ptrdiff_t>(std::min(sent_, sending_.size()));
  const std::size_t count = std::min<std::size_t>(size, static_cast<std::size_t>(sending_.end() - first));
  auto bytes = std::make_shared<Bytes>(first, first + static_cast<std::ptrdiff_t>(count));
  sent_ += count;
  const auto work = [bytes, piece](DeviceHandle& device) -> Result<void> {
    for (std::size_t done = 0; done < bytes->size(); done += piece) {
      const std::size_t now = std::min(piece, bytes->size() - done);
      if (Result<void> written = device.write_data(std::span(*bytes).subspan(done, now)); !written) return written;
    }
    return {};
  };
  return call<void>(line, work, limits_for(count, piece));
}

Result<void> Subject::write(std::size_t size) { return write_pieces(fmt::format("write {}", size), size, size); }

Result<void> Subject::write_all(std::size_t piece) {
  const std::string line = piece == kPiece ? std::string("write all") : fmt::format("write all by {}", piece);
  return write_pieces(line, sending_.size(), piece);
}

// --- regions ---

Result<void> Subject::read_region(std::uint32_t region, std::uint64_t offset, std::span<std::byte> out) {
  auto room = std::make_shared<Bytes>(out.size());
  const std::string line = fmt::format("region read {} {:#x} {}", region, offset, out.size());
  Result<void> done = call<void>(line, [=](DeviceHandle& device) { return device.read(region, offset, *room); });
  if (done) std::ranges::copy(*room, out.begin());
  if (done && out.size() <= sizeof(std::uint64_t)) journal_.outcome(hex(out));
  return done;
}

Result<void> Subject::write_region(std::uint32_t region, std::uint64_t offset, std::span<const std::byte> in) {
  auto bytes = std::make_shared<Bytes>(in.begin(), in.end());
  std::string line = fmt::format("region write {} {:#x}", region, offset);
  for (const std::byte byte : in) line += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
  return call<void>(line, [=](DeviceHandle& device) { return device.write(region, offset, *bytes); });
}

void Subject::change_thread() { lane_.emplace(); }

// --- two things at once ---

void Subject::alongside(std::string_view line, unsigned acts, std::function<Result<void>(DeviceHandle&)> work) {
  alongside(line, acts, [handle = handle_, why = why_lost_, work = std::move(work)]() -> Result<void> {
    return handle ? work(*handle) : fail(ENOTCONN, why);
  });
}

void Subject::alongside(std::string_view line, unsigned acts, std::function<Result<void>()> work) {
  beside_limits_ = acts;
  journal_.act(fmt::format("{}beside {}", options_.prefix, line));
  if (!beside_) beside_.emplace();
  beside_result_ = std::make_shared<std::optional<Result<void>>>();
  beside_->start([result = beside_result_, work = std::move(work)]() mutable {
    *result = work();
    work = nullptr;  // and lets go of what it holds
  });
}

Result<void> Subject::wait() {
  if (!beside_result_) return {};
  const auto result = std::exchange(beside_result_, nullptr);
  journal_.act(options_.prefix + "wait");
  if (beside_->finish(options_.limit * beside_limits_ + kBeyondLimit)) {
    if (!**result) journal_.outcome(errno_name((**result).error().code));
    return **result;
  }
  journal_.outcome("hangs");
  return std::unexpected(lose("what ran beside it did not end"));
}

}  // namespace gangway::conformance
