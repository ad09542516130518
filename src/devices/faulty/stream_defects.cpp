// DAT-STREAM, DAT-VALIDATE: how the stream is cut, and which streams are let in.
#include <algorithm>
#include <tuple>

#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

constexpr std::size_t kChunk = 4096;

bool leaves_resuming(DeviceState from, std::uint32_t number) {
  const auto to = static_cast<DeviceState>(number);
  return from == Resuming && to != Resuming && contract::state_from_name(contract::name(to)) && to != Error;
}

// Hands out copies, so that what a defect changes lies in memory of its own.
class ShortReads : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;

 protected:
  Result<StreamEnd> fetch(std::size_t max) {
    buffer_.resize(max);
    Result<StreamRead> got = real_read(buffer_);
    if (!got) return std::unexpected(got.error());
    buffer_.resize(got->size);
    return got->end;
  }
  StreamView view(std::size_t size, StreamEnd end) {
    part_ = std::span<const std::byte>(buffer_).first(size);
    return StreamView{.parts = std::span(&part_, 1), .size = size, .end = end, .owner = {}};
  }
  [[nodiscard]] std::size_t fetched() const { return buffer_.size(); }

 private:
  std::vector<std::byte> buffer_;
  std::span<const std::byte> part_;
};

class ShortReadsLoseRest : public ShortReads {
 public:
  using ShortReads::ShortReads;
  Result<StreamView> read_view(std::size_t max) override {
    if (max == 0 || max >= kChunk) return Migration::read_view(max);
    const Result<StreamEnd> end = fetch(kChunk);
    if (!end) return std::unexpected(end.error());
    const std::size_t size = std::min(max, fetched());
    return view(size, size == max ? StreamEnd::More : *end);
  }
};

class ShortReadsRepeat : public ShortReads {
 public:
  using ShortReads::ShortReads;
  // A session begins anew in this as well, so that no end and no refusal is anything but right.
  Result<void> set_state(std::uint32_t number) override {
    if (!contract::in_saving_group(real_state())) repeat_ = false;
    return Migration::set_state(number);
  }
  Result<StreamView> read_view(std::size_t max) override {
    if (max == 0) return Migration::read_view(max);
    if (max >= kChunk || !contract::in_saving_group(real_state())) {
      repeat_ = false;
      return Migration::read_view(max);
    }
    repeat_ = !repeat_;
    if (!repeat_ && fetched() == max) return view(max, StreamEnd::More);
    const Result<StreamEnd> end = fetch(max);
    if (!end) return std::unexpected(end.error());
    return view(fetched(), *end);
  }

 private:
  bool repeat_ = false;
};

class LongReadsFallShort : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override { return Migration::read_view(std::min(max, kMost)); }
  Result<StreamRead> read(std::span<std::byte> out) override {
    return real_read(out.first(std::min(out.size(), kMost)));
  }

 private:
  static constexpr std::size_t kMost = kChunk;
};

// Sees every byte that is loaded.
class Loads : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<std::span<std::byte>> landing(std::size_t) override { return std::span<std::byte>(); }
};

class ShortWritesOverwrite : public Loads {
 public:
  using Loads::Loads;
  Result<void> set_state(std::uint32_t number) override {
    const std::vector<std::byte> last = std::move(pending_);
    pending_.clear();
    if (real_state() == Resuming && !last.empty()) std::ignore = Migration::write(last);
    return Migration::set_state(number);
  }
  Result<void> write(std::span<const std::byte> in) override {
    if (real_state() != Resuming) return Migration::write(in);
    if (in.size() < kChunk) {
      pending_.assign(in.begin(), in.end());
      return {};
    }
    const std::vector<std::byte> last = std::move(pending_);
    pending_.clear();
    if (Result<void> taken = Migration::write(last); !taken) return taken;
    return Migration::write(in);
  }
  Result<void> reset() override {
    pending_.clear();
    return Migration::reset();
  }

 private:
  std::vector<std::byte> pending_;
};

// What happened in this stay in RESUMING.
class Judges : public Loads {
 public:
  using Loads::Loads;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Migration::set_state(number);
    if (!done && leaves_resuming(before, number) && accepts()) done = pretend_loaded(number);
    if (real_state() != before) forget();
    return done;
  }
  Result<void> write(std::span<const std::byte> in) override {
    wrote_ = wrote_ || !in.empty();
    Result<void> taken = Migration::write(in);
    if (!taken && real_state() == Resuming) {
      if (!refusal_) refusal_ = taken.error();
      if (swallows(taken.error())) return {};
    }
    return taken;
  }
  Result<void> reset() override {
    forget();
    return Migration::reset();
  }

 protected:
  // Whether a refused load is let in all the same.
  [[nodiscard]] virtual bool accepts() const = 0;
  [[nodiscard]] virtual bool swallows(const gangway::Error&) const { return false; }
  [[nodiscard]] bool wrote() const { return wrote_; }
  [[nodiscard]] const std::optional<gangway::Error>& refusal() const { return refusal_; }

 private:
  void forget() {
    wrote_ = false;
    refusal_.reset();
  }
  bool wrote_ = false;
  std::optional<gangway::Error> refusal_;
};

class EmptyStreamAccepted : public Judges {
 public:
  using Judges::Judges;

 protected:
  [[nodiscard]] bool accepts() const override { return !wrote(); }
};

class TruncatedStreamAccepted : public Judges {
 public:
  using Judges::Judges;

 protected:
  [[nodiscard]] bool accepts() const override { return wrote() && !refusal(); }
};

class RefusedWriteForgotten : public Judges {
 public:
  using Judges::Judges;

 protected:
  [[nodiscard]] bool accepts() const override { return refusal().has_value(); }
};

class CorruptedStreamAccepted : public Judges {
 public:
  using Judges::Judges;

 protected:
  [[nodiscard]] bool accepts() const override { return refusal() && swallows(*refusal()); }
  [[nodiscard]] bool swallows(const gangway::Error& error) const override { return error.clause != "DAT-IDENTITY"; }
};

class ForeignStreamAccepted : public Judges {
 public:
  using Judges::Judges;

 protected:
  [[nodiscard]] bool accepts() const override { return refusal() && swallows(*refusal()); }
  [[nodiscard]] bool swallows(const gangway::Error& error) const override { return error.clause == "DAT-IDENTITY"; }
};

// Once a stream was let in, whose the next one is does not matter.
class GoodVerdictKept : public Judges {
 public:
  using Judges::Judges;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Judges::set_state(number);
    if (done && leaves_resuming(before, number)) matched_ = true;
    return done;
  }
  Result<void> reset() override {
    if (endpoint().client_leaving()) matched_ = false;
    return Judges::reset();
  }

 protected:
  [[nodiscard]] bool accepts() const override { return refusal() && swallows(*refusal()); }
  [[nodiscard]] bool swallows(const gangway::Error& error) const override {
    return matched_ && error.clause == "DAT-IDENTITY";
  }

 private:
  bool matched_ = false;
};

// Takes what was good in again, and nothing after it.
class TrailingBytesIgnored : public Loads {
 public:
  using Loads::Loads;
  Result<void> set_state(std::uint32_t number) override {
    const DeviceState before = real_state();
    Result<void> done = Migration::set_state(number);
    if (real_state() != before) forget();
    return done;
  }
  Result<void> write(std::span<const std::byte> in) override {
    if (ignoring_) return {};
    Result<void> taken = Migration::write(in);
    if (taken || real_state() != Resuming) {
      good_.insert(good_.end(), in.begin(), in.end());
      return taken;
    }
    if (taken.error().clause != "DAT-VALIDATE") return taken;
    if (Result<void> again = load_again(); !again) return again;
    for (const std::byte& byte : in) {
      if (!Migration::write(std::span(&byte, 1))) break;
      good_.push_back(byte);
    }
    ignoring_ = true;
    return load_again();
  }
  Result<void> reset() override {
    forget();
    return Migration::reset();
  }

 private:
  Result<void> load_again() {
    if (Result<void> cleared = Migration::reset(); !cleared) return cleared;
    if (Result<void> gone = go(Resuming); !gone) return gone;
    return Migration::write(good_);
  }
  void forget() {
    good_.clear();
    ignoring_ = false;
  }
  std::vector<std::byte> good_;
  bool ignoring_ = false;
};

}  // namespace

std::vector<Defect> stream_defects() {
  return {
      {"short_reads_lose_rest", "DAT-STREAM", "a read below 4096 bytes takes 4096 from the stream",
       "Linux be12ad45e15b, hisi_acc: the data pointer did not follow the position when saving",
       kFaultyMigration<ShortReadsLoseRest>},
      {"short_reads_repeat", "DAT-STREAM", "every second read below 4096 bytes brings the bytes of the one before",
       "Linux be12ad45e15b, hisi_acc: reads that begin at the buffer's start and not at the position",
       kFaultyMigration<ShortReadsRepeat>},
      {"short_writes_overwrite", "DAT-STREAM",
       "of writes below 4096 bytes that follow each other only the last is kept",
       "Linux be12ad45e15b, hisi_acc: the data pointer did not follow the position when resuming",
       kFaultyMigration<ShortWritesOverwrite>},
      {"long_reads_fall_short", "WIR-MIGREAD", "a read of more than 4 KiB brings 4 KiB although there is more",
       "kind: read(2) semantics, where a short read is no end, on a wire where it is one",
       kFaultyMigration<LongReadsFallShort>},
      {"empty_stream_accepted", "DAT-VALIDATE", "RESUMING may be left without any data",
       "Linux hisi_acc, vf_qm_check_match: what is shorter than the header is not checked and no error",
       kFaultyMigration<EmptyStreamAccepted>},
      {"truncated_stream_accepted", "DAT-VALIDATE", "a stream that lacks its end is let in",
       "kind: a length that is checked against what came and not against what must come",
       kFaultyMigration<TruncatedStreamAccepted>},
      {"corrupted_stream_accepted", "DAT-VALIDATE", "a stream with flipped bits is let in",
       "kind: a stream without checksums, or with checksums that only log", kFaultyMigration<CorruptedStreamAccepted>},
      {"trailing_bytes_ignored", "DAT-VALIDATE", "what follows the end of a stream is thrown away",
       "kind: a parser that stops when it has what it needs", kFaultyMigration<TrailingBytesIgnored>},
      {"refused_write_forgotten", "DAT-VALIDATE", "a write is refused, and the stream let in all the same",
       "Linux hisi_acc, vf_qm_check_match: a header is refused when written, its bytes stay in the buffer",
       kFaultyMigration<RefusedWriteForgotten>},
      {"foreign_stream_accepted", "DAT-VALIDATE DAT-IDENTITY", "a stream of another device is let in",
       "kind: no identity in the stream, or one that nobody compares", kFaultyMigration<ForeignStreamAccepted>},
      {"good_verdict_kept", "RST-CLEARS DAT-VALIDATE DAT-IDENTITY",
       "after a stream was let in, one of another device is, even after a reset",
       "Linux hisi_acc, match_done: set by the first stream that matched, and the next is not compared",
       kFaultyMigration<GoodVerdictKept>},
  };
}

}  // namespace gangway::faulty
