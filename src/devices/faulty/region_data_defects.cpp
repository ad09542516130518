// V1-SAVE, V1-LOAD, V1-CHANGE, R2-DATA: the migration region and its data.
#include "devices/faulty/faulty_front_end.h"

namespace gangway::faulty {
namespace {

using namespace migration_region;

constexpr Revisions kV1Only{.v2 = false, .v1 = true};
constexpr Revisions kRegionV2Only{.v2 = false, .region_v2 = true};

// The next chunk in place of the one that is ready.
class SkippingFrontEnd : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 protected:
  void skip_chunk() {
    std::ignore = get<std::uint64_t>(kDataOffset);
    std::ignore = get<std::uint64_t>(kPendingBytes);
  }
};

class V1PendingMovesOn : public SkippingFrontEnd {
 public:
  using SkippingFrontEnd::SkippingFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset == kPendingBytes && std::exchange(asked_, true)) skip_chunk();
    if (offset == kDataOffset) asked_ = false;
    return FaultyFrontEnd::read(offset, out);
  }

 private:
  bool asked_ = false;
};

class V1OffsetMovesOn : public SkippingFrontEnd {
 public:
  using SkippingFrontEnd::SkippingFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset == kPendingBytes) staged_ = false;
    if (offset == kDataOffset && is_saving() && std::exchange(staged_, true)) skip_chunk();
    return FaultyFrontEnd::read(offset, out);
  }

 private:
  bool staged_ = false;
};

class V1SizeReadsOnce : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset == kPendingBytes) told_ = false;
    Result<void> done = FaultyFrontEnd::read(offset, out);
    if (done && offset == kDataSize && std::exchange(told_, true)) (void)store_at(out, 0, std::uint64_t{0});
    return done;
  }

 private:
  bool told_ = false;
};

class V1PendingNeverEnds : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    Result<void> done = FaultyFrontEnd::read(offset, out);
    if (done && offset == kPendingBytes && is_saving() && *load_at<std::uint64_t>(out) == 0) {
      (void)store_at(out, 0, std::uint64_t{1});
    }
    return done;
  }
};

class V1CommitIgnored : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in) override {
    return offset == kDataSize ? Result<void>{} : FaultyFrontEnd::write(offset, in);
  }
};

class V1SmallWritesRefused : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in) override {
    constexpr std::size_t kLeast = 16;
    if (offset >= kDataStart && in.size() < kLeast) return fail(EINVAL, "migration data: written by words of 16 bytes");
    return FaultyFrontEnd::write(offset, in);
  }
};

// What a cancelled save left in the region is offered again by the next one.
class V1ChunkOverCancel : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    if (offset == kPendingBytes && std::exchange(offered_, false)) left_ = 0;
    if (left_ == 0 || !is_saving()) return FaultyFrontEnd::read(offset, out);
    if (offset == kDataOffset) offered_ = true;
    if (offset != kPendingBytes && offset != kDataSize && offset != kDataOffset)
      return FaultyFrontEnd::read(offset, out);
    (void)store_at(out, 0, offset == kDataOffset ? kDataStart : left_);
    return {};
  }

 private:
  Result<void> set(std::uint32_t bits) override {
    const bool saving = is_saving();
    const std::uint64_t size = saving ? get<std::uint64_t>(kDataSize).value_or(0) : 0;
    Result<void> done = FaultyFrontEnd::set(bits);
    if (saving && !is_saving()) left_ = size;
    return done;
  }

  std::uint64_t left_ = 0;
  bool offered_ = false;
};

class V1ChangeLosesChunk : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  // As if the client had taken it.
  Result<void> set(std::uint32_t bits) override {
    if (is_saving()) std::ignore = get<std::uint64_t>(kDataOffset);
    return FaultyFrontEnd::set(bits);
  }
};

class RegionV2WholePages : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    Result<void> done = FaultyFrontEnd::read(offset, out);
    constexpr std::uint64_t kPage = 4096;
    if (done && offset == kDataSize) (void)store_at(out, 0, *load_at<std::uint64_t>(out) / kPage * kPage);
    return done;
  }
};

class RegionV2StopCopyStartsAnew : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;

 private:
  Result<void> set(std::uint32_t number) override {
    const bool to_stop_copy = number == static_cast<std::uint32_t>(DeviceState::StopCopy);
    if (to_stop_copy && contract::is_pre_copy(migration().state())) std::ignore = put_state(DeviceState::Stop);
    return FaultyFrontEnd::set(number);
  }
};

class RegionV2PreCopyEndIsFinal : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> read(std::uint64_t offset, std::span<std::byte> out) override {
    if (!is_saving()) ended_ = false;
    if (offset == kPendingBytes && ended_) {
      (void)store_at(out, 0, std::uint64_t{0});
      return {};
    }
    Result<void> done = FaultyFrontEnd::read(offset, out);
    if (done && offset == kPendingBytes && is_saving()) ended_ = *load_at<std::uint64_t>(out) == 0;
    return done;
  }
  void reset() override {
    ended_ = false;
    RegionFrontEnd::reset();
  }

 private:
  bool ended_ = false;
};

class RegionV2CommitInWords : public FaultyFrontEnd {
 public:
  using FaultyFrontEnd::FaultyFrontEnd;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> in) override {
    const auto size = written<std::uint64_t>(kDataSize, offset, in);
    constexpr std::uint64_t kWord = 8;
    return size ? put(offset, (*size + kWord - 1) / kWord * kWord) : FaultyFrontEnd::write(offset, in);
  }
};

}  // namespace

std::vector<Defect> region_data_defects() {
  return {
      {"v1_pending_moves_on", "V1-SAVE", "each read of pending_bytes goes on to the next chunk",
       "kind: a register with a side effect, for a client that reads it once", kFaultyFrontEnd<V1PendingMovesOn>,
       Shows::Always, kV1Only},
      {"v1_offset_moves_on", "V1-SAVE", "a second read of data_offset goes on to the next chunk",
       "kind: the chunk acknowledged by the wrong register", kFaultyFrontEnd<V1OffsetMovesOn>, Shows::Always, kV1Only},
      {"v1_size_reads_once", "V1-SAVE", "data_size reads as 0 when it is read again",
       "kind: a count that reading takes away", kFaultyFrontEnd<V1SizeReadsOnce>, Shows::Always, kV1Only},
      {"v1_pending_never_ends", "V1-SAVE", "pending_bytes never reads as 0",
       "kind: an estimate told where the end is asked for", kFaultyFrontEnd<V1PendingNeverEnds>, Shows::Always,
       kV1Only},
      {"v1_commit_ignored", "V1-LOAD", "data is not taken when data_size is written",
       "kind: a device that waits for a client to say that all is there", kFaultyFrontEnd<V1CommitIgnored>,
       Shows::Always, kV1Only},
      {"v1_small_writes_refused", "V1-LOAD", "data written by 8 bytes is refused",
       "kind: a device that was only tried by its mapped area", kFaultyFrontEnd<V1SmallWritesRefused>, Shows::Always,
       kV1Only},
      {"v1_chunk_over_cancel", "V1-CHANGE", "a save begins with what the cancelled one before it left",
       "kind: a staging buffer that only its reader empties", kFaultyFrontEnd<V1ChunkOverCancel>, Shows::Always,
       kV1Only},
      {"v1_change_loses_chunk", "V1-CHANGE", "a chunk that was announced is lost when pre-copy ends",
       "kind: a staging buffer that is emptied by each change of state", kFaultyFrontEnd<V1ChangeLosesChunk>,
       Shows::WithPreCopy, kV1Only},
      {"region_v2_whole_pages", "R2-DATA", "chunks are cut to whole pages", "kind: a buffer counted in pages",
       kFaultyFrontEnd<RegionV2WholePages>, Shows::Always, kRegionV2Only},
      {"region_v2_stop_copy_starts_anew", "R2-DATA", "PRE_COPY to STOP_COPY starts another stream",
       "kind: one buffer a state", kFaultyFrontEnd<RegionV2StopCopyStartsAnew>, Shows::WithPreCopy, kRegionV2Only},
      {"region_v2_pre_copy_end_is_final", "R2-DATA", "once pre-copy had nothing to say, no more data comes",
       "kind: a temporary end taken for the end", kFaultyFrontEnd<RegionV2PreCopyEndIsFinal>, Shows::WithPreCopy,
       kRegionV2Only},
      {"region_v2_commit_in_words", "R2-DATA", "data is taken in words of 8 bytes",
       "kind: a size rounded up to what the hardware moves", kFaultyFrontEnd<RegionV2CommitInWords>, Shows::Always,
       kRegionV2Only},
  };
}

}  // namespace gangway::faulty
