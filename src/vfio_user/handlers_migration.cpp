#include "vfio_user/handlers.h"

namespace gangway::vfio_user {
namespace {

// For a client that moves data, by v2.
Result<Migration*> migration_of(Session& session) {
  if (!session.endpoint.exposes(Revision::V2)) return fail(ENOTSUP, "the device cannot migrate");
  if (Result<void> free = session.endpoint.drive(Revision::V2); !free) return std::unexpected(free.error());
  return session.endpoint.migration();
}

Result<void> check_size(Session& session, std::string_view what, std::uint32_t size) {
  if (size <= session.offered.max_data_xfer_size) return {};
  return fail(EINVAL,
              fmt::format("{}: {} bytes, at most {} are served", what, size, session.offered.max_data_xfer_size));
}

// ENOMSG to those who know it.
Result<void> check_end(const Session& session, std::size_t size, StreamEnd end) {
  if (size != 0 || end != StreamEnd::Temporary || !session.negotiated->server.enomsg) return {};
  return fail(ENOMSG, "migration data: nothing to read now", "DAT-EOS-PRECOPY");
}

Result<void> check_write(Session& session, const Request& request) {
  const std::optional<MigData> asked = load_at<MigData>(request.body);
  if (!asked) return fail(EINVAL, "MIG_DATA_WRITE: without a size", "WIR-FRAME");
  if (Result<void> fits = check_size(session, "MIG_DATA_WRITE", asked->size); !fits) return fits;
  const std::size_t came = request.body.size() - sizeof *asked + request.placed.size();
  if (came == asked->size) return {};
  return fail(EINVAL, fmt::format("MIG_DATA_WRITE: {} bytes came with {}", asked->size, came), "WIR-FRAME");
}

}  // namespace

Result<void> handle_mig_data_read(Session& session, const Request& request, Answer& answer) {
  const auto asked = fixed_part<MigData>(request);
  if (Result<void> fits = check_size(session, "MIG_DATA_READ", asked.size); !fits) return fits;
  if (Result<void> fits = check_argsz("MIG_DATA_READ", asked.argsz, sizeof asked + asked.size); !fits) return fits;
  const Result<Migration*> migration = migration_of(session);
  if (!migration) return std::unexpected(migration.error());

  // The engine fills what was asked for unless the data ends, so a shorter reply means the end (WIR-MIGREAD).
  Result<StreamView> view = (*migration)->read_view(asked.size);
  if (!view) return std::unexpected(view.error());
  if (Result<void> some = check_end(session, view->size, view->end); !some) return some;
  // A client that takes none but replies as long as asked finds the length in `size`, and zeros behind.
  const std::size_t padding = session.negotiated->padded_replies ? asked.size - view->size : 0;
  answer.put(MigData{.argsz = static_cast<std::uint32_t>(sizeof asked + view->size + padding),
                     .size = static_cast<std::uint32_t>(view->size)});
  for (const std::span<const std::byte> part : view->parts) answer.refer(part);
  answer.put_zeros(padding);
  answer.keep(std::move(view->owner));
  if (view->end == StreamEnd::Final) (*migration)->read_to_end();
  return {};
}

Result<void> handle_mig_data_write(Session& session, const Request& request, Answer&) {
  const Result<Migration*> migration = migration_of(session);
  if (!migration) return std::unexpected(migration.error());
  const Result<void> sound = check_write(session, request);
  if (!sound) {
    (*migration)->refuse_load(sound.error());  // what it should have brought is missing from the stream
    return sound;
  }
  if (!request.placed.empty()) return (*migration)->write({});  // it landed already; this tells how that went
  return (*migration)->write(request.body.subspan(sizeof(MigData)));
}

// --- by shared memory ---

namespace {

Result<Migration*> migration_with_shared_data(Session& session) {
  if (!session.negotiated->server.shared_data) return fail(ENOTSUP, "shared migration data: it was not negotiated");
  return migration_of(session);
}

Result<std::span<std::byte>> stretch_of(const Session& session, std::string_view what, const MigDataShared& asked) {
  if (!session.shared) return fail(EINVAL, fmt::format("{}: there is no shared memory; ask for it first", what));
  if (const auto stretch = session.shared->stretch(asked.offset, asked.size)) return *stretch;
  return fail(EINVAL, fmt::format("{}: {} bytes at {:#x} of shared memory of {:#x}", what, asked.size, asked.offset,
                                  session.shared->size()));
}

Result<std::span<std::byte>> check_shared_write(const Session& session, const Request& request) {
  const std::optional<MigDataShared> asked = load_at<MigDataShared>(request.body);
  if (!asked || request.body.size() != sizeof *asked) {
    return fail(
        EINVAL,
        fmt::format("MIG_DATA_WRITE_SHARED: {} bytes, {} belong to it", request.body.size(), sizeof(MigDataShared)),
        "WIR-FRAME");
  }
  return stretch_of(session, "MIG_DATA_WRITE_SHARED", *asked);
}

}  // namespace

Result<void> handle_mig_data_read_shared(Session& session, const Request& request, Answer& answer) {
  const Result<Migration*> migration = migration_with_shared_data(session);
  if (!migration) return std::unexpected(migration.error());
  const auto asked = fixed_part<MigDataShared>(request);
  if (Result<void> fits = check_argsz("MIG_DATA_READ_SHARED", asked.argsz, sizeof asked); !fits) return fits;
  const Result<std::span<std::byte>> stretch = stretch_of(session, "MIG_DATA_READ_SHARED", asked);
  if (!stretch) return std::unexpected(stretch.error());
  const Result<StreamRead> read = (*migration)->read(*stretch);
  if (!read) return std::unexpected(read.error());
  if (Result<void> some = check_end(session, read->size, read->end); !some) return some;
  answer.put(
      MigDataShared{.argsz = sizeof asked, .size = static_cast<std::uint32_t>(read->size), .offset = asked.offset});
  if (read->end == StreamEnd::Final) (*migration)->read_to_end();
  return {};
}

// The engine copies what it is given before it looks at it: the client may write to it all the while.
Result<void> handle_mig_data_write_shared(Session& session, const Request& request, Answer&) {
  const Result<Migration*> migration = migration_with_shared_data(session);
  if (!migration) return std::unexpected(migration.error());
  const Result<std::span<std::byte>> stretch = check_shared_write(session, request);
  if (!stretch) {
    (*migration)->refuse_load(stretch.error());  // what it should have brought is missing from the stream
    return std::unexpected(stretch.error());
  }
  return (*migration)->write(*stretch);
}

std::span<std::byte> landing_for(Session& session, const Header& header) {
  constexpr std::size_t kBeforeData = sizeof(Header) + sizeof(MigData);
  if (static_cast<Command>(header.command) != Command::MigDataWrite || !session.negotiated) return {};
  if (!session.endpoint.look(Revision::V2) || header.size <= kBeforeData) return {};
  const std::size_t size = header.size - kBeforeData;
  const Result<std::span<std::byte>> landing = session.endpoint.migration()->landing(size);
  if (!landing || landing->size() != size) return {};
  return *landing;
}

void landed(Session& session, std::size_t size) { (void)session.endpoint.migration()->landed(size); }

}  // namespace gangway::vfio_user
