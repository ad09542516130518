// DAT-EOS-*, DAT-EARLY, DAT-DIRECTION, DAT-SESSION, DAT-SIZE: the life of a data session.
#include "devices/faulty/defect.h"

namespace gangway::faulty {
namespace {

using enum DeviceState;

class StopCopyEndIsEnomsg : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->size == 0 && view->end == StreamEnd::Final) view->end = StreamEnd::Temporary;
    return view;
  }
};

class TemporaryEndIsZero : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->end == StreamEnd::Temporary) view->end = StreamEnd::Final;
    return view;
  }
};

class TemporaryEndHangs : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (!view || view->size != 0 || view->end != StreamEnd::Temporary) return view;
    return std::unexpected(endpoint().hang().error());
  }
};

class StreamStartsOver : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->size == 0 && view->end == StreamEnd::Final && max != 0) {
      if (Result<void> gone = go(Stop); !gone) return std::unexpected(gone.error());
      if (Result<void> gone = go(StopCopy); !gone) return std::unexpected(gone.error());
    }
    return view;
  }
};

class PreCopyMustBeDrained : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    const bool leaves = contract::is_pre_copy(real_state()) && !contract::is_pre_copy(static_cast<DeviceState>(number));
    if (leaves && !drained_) return fail(EBUSY, "pre-copy data is left");
    if (!contract::is_pre_copy(real_state())) drained_ = false;
    return Migration::set_state(number);
  }
  Result<StreamView> read_view(std::size_t max) override {
    Result<StreamView> view = Migration::read_view(max);
    if (view && view->end == StreamEnd::Temporary) drained_ = true;
    return view;
  }

 private:
  bool drained_ = false;
};

class StopCopyStartsAnew : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> set_state(std::uint32_t number) override {
    if (contract::is_pre_copy(real_state()) && static_cast<DeviceState>(number) == StopCopy) {
      if (Result<void> gone = go(Stop); !gone) return gone;
    }
    return Migration::set_state(number);
  }
};

class WriteWhileSavingAccepted : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<void> write(std::span<const std::byte> in) override {
    if (contract::in_saving_group(real_state())) return {};
    return Migration::write(in);
  }
};

class ReadInResumingIsEnd : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  Result<StreamView> read_view(std::size_t max) override {
    if (real_state() == Resuming) return StreamView{.parts = {}, .size = 0, .end = StreamEnd::Final, .owner = {}};
    return Migration::read_view(max);
  }
};

class DataSizeWhileSavingOnly : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  [[nodiscard]] std::uint64_t data_size() const override {
    return contract::in_saving_group(real_state()) ? Migration::data_size() : 0;
  }
};

class DataSizeInPages : public FaultyMigration {
 public:
  using FaultyMigration::FaultyMigration;
  [[nodiscard]] std::uint64_t data_size() const override { return Migration::data_size() / 4096; }
};

}  // namespace

std::vector<Defect> session_defects() {
  return {
      {"stop_copy_starts_anew", "DAT-SESSION", "PRE_COPY to STOP_COPY starts another stream",
       "kind: one file a state; in libvfio-user pull request 776 the sample sends again in stop-and-copy what pre-copy "
       "sent",
       kFaultyMigration<StopCopyStartsAnew>, Shows::WithPreCopy},
      {"stop_copy_end_is_enomsg", "DAT-EOS-STOP", "the end of the stream in STOP_COPY is ENOMSG",
       "kind: one read function for pre-copy and for stop-copy", kFaultyMigration<StopCopyEndIsEnomsg>},
      {"stream_starts_over", "DAT-EOS-STOP", "a read after the end begins the stream again",
       "libvfio-user issue 440: a server cannot tell whether data was taken, and offers it again",
       kFaultyMigration<StreamStartsOver>},
      {"temporary_end_is_zero", "DAT-EOS-PRECOPY", "a temporary end in PRE_COPY reads as the end of the stream",
       "kind: a stop-copy-only driver with pre-copy added; over vfio-user it is what a peer without ENOMSG is told",
       kFaultyMigration<TemporaryEndIsZero>, Shows::WithPreCopy},
      {"temporary_end_hangs", "DAT-EOS-PRECOPY", "a read at a temporary end waits for data that may never come",
       "kind: a blocking read in a session that nobody ends", kFaultyMigration<TemporaryEndHangs>, Shows::WithPreCopy},
      {"precopy_must_be_drained", "DAT-EARLY", "PRE_COPY cannot be left before all its data was read",
       "kind: a driver that was only tried with a VMM that reads pre-copy to its end",
       kFaultyMigration<PreCopyMustBeDrained>, Shows::WithPreCopy},
      {"write_while_saving_accepted", "DAT-DIRECTION", "data written while saving is taken and thrown away",
       "kind: a data file opened for both directions", kFaultyMigration<WriteWhileSavingAccepted>},
      {"read_in_resuming_is_end", "DAT-DIRECTION", "a read in RESUMING gives the end of a stream and no error",
       "kind: an empty buffer taken for a stream that was read", kFaultyMigration<ReadInResumingIsEnd>},
      {"data_size_while_saving_only", "DAT-SIZE", "the size of the data is 0 until it is being read",
       "kind: the size of what is buffered told for the size of what will be",
       kFaultyMigration<DataSizeWhileSavingOnly>},
      {"data_size_in_pages", "DAT-SIZE", "the size of the data is told in pages",
       "kind: units; compare Linux 4004497cec30, pds, where bytes of a bitmap were taken for bits",
       kFaultyMigration<DataSizeInPages>},
  };
}

}  // namespace gangway::faulty
